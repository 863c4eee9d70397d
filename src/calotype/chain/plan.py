"""What `calotype run` does with the images, the machine and the minutes it has, decided once and said aloud."""

from dataclasses import dataclass

from calotype.chain.source import Source
from calotype.presets import AUTOENCODERS, DIFFUSION, AutoencoderPreset, DiffusionPreset
from calotype.training.session import Session
from calotype.utils.config import Config
from calotype.utils.errors import UserError

SIZES = (32, 64, 128, 256)
AUTOENCODER_SHARE, REPORT_SHARE = 0.36, 0.08
CPU_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Plan(Config):
    """The decisions of a chain; stored in its config.json, so that running it again goes on with the same."""

    source: str
    size: int
    autoencoder: str
    diffusion: str
    autoencoder_minutes: float
    diffusion_minutes: float
    samples: int
    seed: int = 0

    @property
    def presets(self) -> tuple[AutoencoderPreset, DiffusionPreset]:
        """The presets that the names stand for."""
        return AUTOENCODERS[self.autoencoder], DIFFUSION[self.diffusion]


def make_plan(
    source: Source, session: Session, *, minutes: float, size: int | None, seed: int
) -> tuple[Plan, list[str]]:
    """Choose size, presets and the minutes of each stage; return the plan and the reasons, a line each.

    Raises:
        UserError: the size or the minutes cannot be used.
    """
    if minutes <= 0:
        raise UserError(f"--minutes must be above 0, not {minutes:g}")
    gpu = session.device.type != "cpu"
    debug = minutes < 1 and not gpu
    chosen, reason = choose_size(source, size, gpu=gpu)
    autoencoder, diffusion = ("kl-f4-small", "ldm-small")
    if gpu and chosen >= 128 and minutes >= 60:
        autoencoder, diffusion = ("kl-f8", "ldm-base")
    if debug:
        autoencoder, diffusion = ("kl-f8-debug", "ldm-debug")
    plan = Plan(
        source=source.name,
        size=chosen,
        autoencoder=autoencoder,
        diffusion=diffusion,
        autoencoder_minutes=AUTOENCODER_SHARE * minutes,
        diffusion_minutes=(1 - AUTOENCODER_SHARE - REPORT_SHARE) * minutes,
        samples=int(min(384, max(16, 24 * minutes))),
        seed=seed,
    )
    fields = ", ".join(name for name in ("caption", "class") if name in source.train.field_names) or "nothing"
    precision = "bf16" if session.bf16 else "fp32"
    lines = [
        f"{len(source.train)} images to train on, {fields} to condition on",
        *source.notes,
        f"{chosen} px: {reason}",
        f"autoencoder {autoencoder}, diffusion {diffusion}: for {'a GPU' if gpu else 'a CPU'} in {precision}"
        + (" and under a minute (a debug size: do not expect pictures)" if debug else f" and {minutes:g} minutes"),
        f"{plan.autoencoder_minutes:.1f} minutes for the autoencoder, {plan.diffusion_minutes:.1f} for the diffusion "
        "model, the rest for the report",
    ]
    return plan, lines


def choose_size(source: Source, size: int | None, *, gpu: bool) -> tuple[int, str]:
    """Return the training size and why: the one asked for, or the largest that the images and the machine allow.

    Raises:
        UserError: the size asked for cannot be used.
    """
    if size is not None:
        if size < 16 or size % 16:
            raise UserError(f"--size must be a multiple of 16 and at least 16, not {size}")
        return size, "as asked"
    largest = SIZES[-1] if gpu else CPU_SIZE
    fitting = [known for known in SIZES if known <= min(source.native_size, largest)]
    chosen = fitting[-1] if fitting else SIZES[0]
    if source.native_size > chosen:
        return chosen, f"the images have {source.native_size}, but this is what {'a GPU' if gpu else 'a CPU'} can train"
    return chosen, f"the images have {source.native_size}"
