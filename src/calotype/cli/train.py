"""``calotype train``."""

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from calotype.cli.task_options import TaskOptions, draw_command

if TYPE_CHECKING:
    from calotype.presets import Preset

log = logging.getLogger("calotype")
MINUTES = 10.0


def command(
    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET|FOLDER")],
    /,
    *,
    data: str | None = None,
    out: Path | None = None,
    autoencoder: Path | None = None,
    size: str | None = None,
    samples: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    ema_snapshots: int = 0,
    vgg16: Path | None = None,
    from_scratch: bool = False,
    task: TaskOptions = TaskOptions(),
    strict: bool = False,
) -> None:
    """Train one stage. The same command goes on where it was stopped.

    First an autoencoder: calotype train photos/ (or, with nothing left to choose: calotype train kl-f4-small
    --data photos/ --out runs/ae --minutes 30)

    Then a diffusion model on its latents: calotype train photos/ --autoencoder runs/photos-autoencoder (or calotype
    train modern --autoencoder runs/ae --data photos/ --out runs/ldm --minutes 60)

    For live previews (calotype sample --previews), a tiny decoder that imitates it: calotype train tiny-decoder
    --autoencoder runs/ae --data photos/ --out runs/tiny --minutes 2

    For tasks other than drawing of captions or classes: calotype train photos/ --autoencoder runs/ae --task inpaint

    Small pictures need no autoencoder: calotype train modern --autoencoder none --data sprites/ --size 32 --out runs/px

    Args:
        what: Name of a preset (`calotype presets` lists them), or a folder of images (or emoji, emoji:faces ...), for
            which the preset is chosen as in `calotype run`.
        data: The images, where the preset was named.
        out: The run's folder; by default runs/, then the name of the images and what is trained.
        autoencoder: The trained autoencoder (diffusion and tiny decoder presets), or none: diffusion in pixel space.
        size: Pixels to train at (not on latents), 64 or (width x height) 96x64; by default as in `calotype run`. Of
            several, as in 64,96x64,64x96, each image is trained on at the one that crops it least; all else is done at
            the first.
        samples: Length of the run in images; or give minutes.
        minutes: Length of the run in minutes, turned into samples once by a short timing. 10 if neither is given.
        batch_size: Images per step over all processes; by default the preset's.
        seed: Seed of everything that is random.
        device: Where to compute: auto, cpu, cuda, mps.
        precision: auto takes bf16 where the hardware has it.
        ema_snapshots: Keep so many snapshots of the averaged weights (12 will do), from which `calotype ema` makes a
            model of any average afterwards (diffusion presets only).
        vgg16: File of VGG16 weights (LPIPS's own or torchvision's, .pth or .safetensors) for the perceptual loss of an
            autoencoder, as in the reference; by default it is what the preset has.
        from_scratch: Train an autoencoder from random weights, not from the general-purpose ones of the package.
        task: What a diffusion model is to do.
        strict: End at the first file or row that cannot be used, rather than leave it out.
    """
    from calotype.artifact import read_artifact
    from calotype.chain.plan import choose_preset, choose_size
    from calotype.chain.source import open_source
    from calotype.chain.stages import loader, train_autoencoder, train_diffusion, train_tiny_decoder
    from calotype.cli.values import check_positive, check_seed, model_folder
    from calotype.presets import AutoencoderPreset, DiffusionPreset, TinyDecoderPreset
    from calotype.training.pixel_space import pixel_space
    from calotype.training.session import start_session
    from calotype.training.trainer import TrainerConfig
    from calotype.utils.distributed import is_main, process_group
    from calotype.utils.errors import UserError
    from calotype.utils.size import Size, parse_sizes, read_size, size_text

    named, data = _preset_and_data(what, data)
    stage = named.stage if named else "autoencoder" if autoencoder is None else "diffusion"
    if stage != "autoencoder" and autoencoder is None:
        raise UserError(f"{what} trains on latents: name an autoencoder with --autoencoder")
    if stage == "tiny_decoder" and str(autoencoder) == "none":
        raise UserError(f"{what} imitates an autoencoder: name one with --autoencoder")
    in_pixels = stage == "diffusion" and str(autoencoder) == "none"
    if stage != "autoencoder" and ((size is not None and not in_pixels) or vgg16 is not None or from_scratch):
        raise UserError(
            f"{what} takes its size from the autoencoder, has no perceptual loss and always starts from scratch: "
            "leave --size, --vgg16 and --from-scratch out"
        )
    if stage != "diffusion" and task != TaskOptions():
        raise UserError(f"{what} is no diffusion model: leave --task and what belongs to it out")
    if stage == "autoencoder" and autoencoder is not None:
        raise UserError(f"{what} is itself an autoencoder: leave --autoencoder out")
    if stage != "diffusion" and ema_snapshots:
        raise UserError(f"--ema-snapshots is for diffusion models: leave it out with {what}")
    if samples is not None and minutes is not None:
        raise UserError("give either --samples or --minutes")
    check_positive(samples=samples, minutes=minutes, batch_size=batch_size)
    check_seed(seed)
    if ema_snapshots < 0:
        raise UserError(f"--ema-snapshots must not be negative: {ema_snapshots}")
    if samples is None and minutes is None:
        minutes = MINUTES
    wanted = () if size is None else parse_sizes(size)
    wanted_task = task.parse()
    artifact = None
    if autoencoder is not None and not in_pixels:
        kind = "autoencoder" if stage == "diffusion" else None
        artifact = read_artifact(model_folder(str(autoencoder)), kind=kind)
    with process_group():
        session = start_session(device, precision)
        source = open_source(data, strict=strict)
        for note in source.notes:
            log.info(note)
        sizes: list[Size] = []
        if artifact is None:
            for each in wanted or (None,):
                pixels, reason = choose_size(source, each, gpu=session.device.type != "cpu")
                log.info(f"{size_text(pixels)} px: {reason}")
                sizes.append(pixels)
        chosen = named
        if chosen is None:
            first = sizes[0] if artifact is None else read_size(artifact.config["size"])
            chosen, reason = choose_preset(stage, first, minutes or MINUTES, session)
            log.info(f"{chosen.name}: {reason}")
        out = out or Path("runs") / f"{_plain_name(data)}-{stage.replace('_', '-')}"
        log.info(f"all goes to {out}")
        usual = chosen.batch_size
        if isinstance(chosen, DiffusionPreset):
            usual = chosen.batch_size_on(session.device.type)
        settings = TrainerConfig(
            out=str(out),
            samples=samples,
            minutes=minutes,
            batch_size=batch_size or usual,
            seed=seed,
            device=device,
            precision=precision,
            ema_snapshots=ema_snapshots,
        )
        if isinstance(chosen, AutoencoderPreset):
            weights = None if vgg16 is None else str(vgg16)
            checkpoint = train_autoencoder(chosen, source, sizes, settings, vgg16=weights, from_scratch=from_scratch)
        elif isinstance(chosen, TinyDecoderPreset):
            assert artifact is not None
            checkpoint = train_tiny_decoder(chosen, source, artifact, settings)
        else:
            if in_pixels:
                artifact = pixel_space(loader(source.train, sizes[0], seed), out / "pixels")
            assert artifact is not None
            checkpoint = train_diffusion(chosen, source, artifact, out / "latents", settings, session, wanted_task)
        if is_main():
            print(f"trained: {checkpoint}")
            fields = [
                embedder["field"]
                for embedder in read_artifact(checkpoint).config.get("conditioner", {"embedders": ()})["embedders"]
            ]
            print(_next(stage, data, out, fields))


def _preset_and_data(what: str, data: str | None) -> "tuple[Preset | None, str]":
    """Return the preset that ``what`` names, None where it names images, and the images.

    Raises:
        UserError: it names neither, or the images are named twice or not at all.
    """
    from calotype.presets import PRESETS, find_preset
    from calotype.utils.errors import UserError, nearest

    if what in PRESETS and data is None:
        raise UserError(f"name the images that {what} is to be trained on with --data")
    if what not in PRESETS and data is not None and Path(what).is_dir():
        raise UserError(f"{what} and --data {data} both name images: give a preset and images, or images alone")
    if data is not None:
        return find_preset(what), data
    if Path(what).exists() or what == "emoji" or what.startswith("emoji:"):
        return None, what
    hint = nearest(what, PRESETS)
    raise UserError(f"{what!r} is no folder of images, and no preset.{hint} `calotype presets` lists the presets")


def _plain_name(data: str) -> str:
    """Return what a run on these images can be called."""
    return data.replace(":", "-") if data.startswith("emoji") else Path(data).resolve().name or "images"


def _next(stage: str, data: str, out: Path, fields: list[str]) -> str:
    """Return what to type next."""
    images, run = shlex.quote(data), shlex.quote(str(out))
    if stage == "autoencoder":
        return (
            f"look at it: calotype reconstruct {run} --data {images} --out {shlex.quote(f'{out}-reconstructions')}\n"
            f"measure it: calotype evaluate {run} --data {images}\n"
            f"diffusion on its latents: calotype train {images} --autoencoder {run}"
        )
    if stage == "diffusion":
        return f"draw with it: {draw_command(out, fields)}"
    return f"draw previews with it: calotype sample MODEL --previews previews --tiny {run}"
