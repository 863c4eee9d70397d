"""What `calotype run` does with the images, the machine and the minutes it has, decided once and said aloud."""

import math
from dataclasses import dataclass

from calotype.chain.source import Source
from calotype.chain.stages import check_multiple
from calotype.presets import AUTOENCODERS, DIFFUSION, AutoencoderPreset, DiffusionPreset
from calotype.presets.diffusion import GENERATE
from calotype.presets.tasks import Task
from calotype.training.session import Session
from calotype.utils.config import Config
from calotype.utils.errors import UserError
from calotype.utils.progress import clock
from calotype.utils.size import Size, height_width, size_text

SIZES = (32, 64, 128, 256)
LARGEST_SIZE = 1024
AUTOENCODER_SHARE, WARM_SHARE, REPORT_SHARE = 0.36, 0.18, 0.08
CPU_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Plan(Config):
    """The decisions of a chain with their reasons; its config.json, so that running it again goes on with the same."""

    source: str
    fingerprint: str
    size: Size
    autoencoder: str
    diffusion: str
    autoencoder_minutes: float
    diffusion_minutes: float
    samples: int
    seed: int = 0
    warm_start: bool = False
    task: Task = GENERATE
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.autoencoder not in AUTOENCODERS or self.diffusion not in DIFFUSION:
            raise ValueError(f"autoencoder and diffusion must name presets, not {self.autoencoder}, {self.diffusion}")

    @property
    def presets(self) -> tuple[AutoencoderPreset, DiffusionPreset]:
        """The presets that the names stand for."""
        return AUTOENCODERS[self.autoencoder], DIFFUSION[self.diffusion]


def make_plan(
    source: Source,
    session: Session,
    *,
    minutes: float,
    size: Size | None,
    seed: int,
    from_scratch: bool = False,
    task: Task = GENERATE,
) -> Plan:
    """Choose size, presets and the minutes of each stage, and give the reasons, a line each.

    Raises:
        UserError: the size or the minutes cannot be used, or the images lack what the ``task`` needs.
    """
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes must be above 0, not {minutes:g}")
    gpu = session.device.type != "cpu"
    chosen, reason = choose_size(source, size, gpu=gpu)
    autoencoder, diffusion, remark = _choose_presets(chosen, minutes, gpu=gpu)
    multiple = AUTOENCODERS[autoencoder].autoencoder.factor * DIFFUSION[diffusion].factor
    check_multiple(chosen, multiple, f"{autoencoder} and {diffusion}")
    warm = not from_scratch and AUTOENCODERS[autoencoder].starts_warm(source.train.pixel_format.channels)
    share = WARM_SHARE if warm else AUTOENCODER_SHARE
    autoencoder_minutes, diffusion_minutes = share * minutes, (1 - share - REPORT_SHARE) * minutes
    begins = f"{autoencoder} from general-purpose weights" if warm else autoencoder
    reasons = (
        f"{len(source.train)} images to train on, {_conditions(source, DIFFUSION[diffusion], task)}",
        *source.notes,
        f"{size_text(chosen)} px: {reason}",
        f"autoencoder {begins}, diffusion {diffusion}: for {_means(session, minutes)}{remark}",
        f"{clock(60 * autoencoder_minutes)} for the autoencoder, {clock(60 * diffusion_minutes)} for the diffusion "
        "model, the rest for the report",
    )
    return Plan(
        source=source.name,
        fingerprint=source.train.fingerprint,
        size=chosen,
        autoencoder=autoencoder,
        diffusion=diffusion,
        autoencoder_minutes=autoencoder_minutes,
        diffusion_minutes=diffusion_minutes,
        samples=int(min(384, max(16, 24 * minutes))),
        seed=seed,
        warm_start=warm,
        task=task,
        reasons=reasons,
    )


def choose_size(source: Source, size: Size | None, *, gpu: bool) -> tuple[Size, str]:
    """Return the training size and why: the one asked for, or the largest that the images and the machine allow.

    Raises:
        UserError: the size asked for cannot be used.
    """
    if size is not None:
        if any(not 16 <= side <= LARGEST_SIZE or side % 16 for side in height_width(size)):
            wanted = f"a multiple of 16 between 16 and {LARGEST_SIZE}"
            raise UserError(f"--size must be {wanted}, not {size_text(size)}")
        return size, "as asked"
    largest = SIZES[-1] if gpu else CPU_SIZE
    chosen = max((each for each in SIZES if each <= min(source.native_size, largest)), default=SIZES[0])
    reason = f"the images have {source.native_size}"
    if source.native_size > largest:
        reason += f", but this is what {'a GPU' if gpu else 'a CPU'} can train"
    elif source.native_size < chosen:
        reason += ", but this is the least"
    return chosen, reason


def choose_preset(
    stage: str, size: Size, minutes: float, session: Session
) -> tuple[AutoencoderPreset | DiffusionPreset, str]:
    """Return the preset by which a chain would train its ``autoencoder`` or ``diffusion`` stage, and why."""
    autoencoder, diffusion, remark = _choose_presets(size, minutes, gpu=session.device.type != "cpu")
    preset = AUTOENCODERS[autoencoder] if stage == "autoencoder" else DIFFUSION[diffusion]
    return preset, f"for {_means(session, minutes)}{remark}"


def _means(session: Session, minutes: float) -> str:
    machine = "a GPU" if session.device.type != "cpu" else "a CPU"
    return f"{machine} in {'bf16' if session.bf16 else 'fp32'} and {clock(60 * minutes)}"


def _choose_presets(size: Size, minutes: float, *, gpu: bool) -> tuple[str, str, str]:
    """Return the names of an autoencoder and a diffusion preset, and a remark."""
    if not gpu and minutes < 1:
        return "kl-f8-debug", "ldm-debug", " (a debug size: do not expect pictures)"
    if gpu and min(height_width(size)) >= 128 and minutes >= 60:
        return "kl-f8", "modern-base", ""
    return "kl-f4-small", "modern", ""


def _conditions(source: Source, preset: DiffusionPreset, task: Task) -> str:
    """Say what the model will be conditioned on, and how many images have it."""
    conditions = preset.conditions(source.train, task)
    made = {each.field for each in conditions.derived}
    counts = {
        name: sum(record.fields.get(name) is not None for record in source.train.records)
        for embedder in conditions.conditioner.embedders
        if (name := embedder.field) in source.train.field_names
    }
    told = [f"{name} ({count} of them have one)" for name, count in counts.items()]
    told += [f"{name.replace('_', ' ')} (made from each)" for name in sorted(made)]
    told += [name for name in task.fields(source.train) if name not in counts and name not in made]
    return (
        f"conditioned on their {' and '.join(told)}"
        if told
        else "with nothing to condition on (no captions, no classes)"
    )
