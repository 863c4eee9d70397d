"""``calotype train``."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import tyro

log = logging.getLogger("calotype")


def command(
    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")],
    /,
    *,
    data: str,
    out: Path,
    autoencoder: Path | None = None,
    size: int | None = None,
    samples: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    vgg16: Path | None = None,
) -> None:
    """Train one stage by a preset (`calotype presets` lists them). The same command goes on where it was stopped.

    First an autoencoder: calotype train kl-f4-small --data photos/ --out runs/ae --minutes 30

    Then a diffusion model on its latents: calotype train modern --autoencoder runs/ae --data photos/ --out runs/ldm
    --minutes 60

    For live previews (calotype sample --previews), a tiny decoder that imitates it: calotype train tiny-decoder
    --autoencoder runs/ae --data photos/ --out runs/tiny --minutes 2

    Args:
        preset: Name of the preset.
        data: A folder of images, or emoji, emoji:faces ...
        out: The run's folder.
        autoencoder: The trained autoencoder (diffusion and tiny decoder presets).
        size: Pixels of the training squares (autoencoder presets only; by default as in `calotype run`).
        samples: Length of the run in images; or give minutes.
        minutes: Length of the run in minutes, turned into samples once by a short timing. 10 if neither is given.
        batch_size: Images per step over all processes; by default the preset's.
        seed: Seed of everything that is random.
        device: Where to compute: auto, cpu, cuda, mps.
        precision: auto takes bf16 where the hardware has it.
        vgg16: File of VGG16 weights (LPIPS's own or torchvision's, .pth or .safetensors) for the perceptual loss of an
            autoencoder, as in the reference; by default it is what the preset has.
    """
    from calotype.artifact import read_artifact
    from calotype.chain.plan import choose_size
    from calotype.chain.source import open_source
    from calotype.chain.stages import train_autoencoder, train_diffusion, train_tiny_decoder
    from calotype.cli.values import check_positive, check_seed, model_folder
    from calotype.presets import AutoencoderPreset, TinyDecoderPreset, find_preset
    from calotype.training.session import start_session
    from calotype.training.trainer import TrainerConfig
    from calotype.utils.distributed import is_main, process_group
    from calotype.utils.errors import UserError

    chosen = find_preset(preset)
    if chosen.stage != "autoencoder" and autoencoder is None:
        raise UserError(f"{preset} trains on latents: name an autoencoder with --autoencoder")
    if chosen.stage != "autoencoder" and (size is not None or vgg16 is not None):
        raise UserError(
            f"{preset} takes its size from the autoencoder and has no perceptual loss: leave --size and --vgg16 out"
        )
    if chosen.stage == "autoencoder" and autoencoder is not None:
        raise UserError(f"{preset} is itself an autoencoder: leave --autoencoder out")
    if samples is not None and minutes is not None:
        raise UserError("give either --samples or --minutes")
    check_positive(samples=samples, minutes=minutes, batch_size=batch_size)
    check_seed(seed)
    settings = TrainerConfig(
        out=str(out),
        samples=samples,
        minutes=10.0 if samples is None and minutes is None else minutes,
        batch_size=batch_size or chosen.batch_size,
        seed=seed,
        device=device,
        precision=precision,
    )
    artifact = None
    if autoencoder is not None:
        kind = "autoencoder" if chosen.stage == "diffusion" else None
        artifact = read_artifact(model_folder(str(autoencoder)), kind=kind)
    with process_group():
        session = start_session(device, precision)
        source = open_source(data)
        for note in source.notes:
            log.info(note)
        if isinstance(chosen, AutoencoderPreset):
            pixels, reason = choose_size(source, size, gpu=session.device.type != "cpu")
            log.info(f"{pixels} px: {reason}")
            checkpoint = train_autoencoder(chosen, source, pixels, settings, None if vgg16 is None else str(vgg16))
        elif isinstance(chosen, TinyDecoderPreset):
            assert artifact is not None
            checkpoint = train_tiny_decoder(chosen, source, artifact, settings)
        else:
            assert artifact is not None
            checkpoint = train_diffusion(chosen, source, artifact, out / "latents", settings, session)
        if is_main():
            print(f"trained: {checkpoint}")
