"""``calotype sample``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from collections.abc import Callable

    from calotype.diffusion import State
    from calotype.pipeline import LatentDiffusion


def command(
    model: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")] = None,
    /,
    *,
    original: Path | None = None,
    config: str | None = None,
    caption: str | None = None,
    negative: str | None = None,
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    seeds: str = "0-15",
    steps: int = 20,
    spacing: Literal["trailing", "leading", "linspace", "quadratic", "log_snr", "karras", "beta"] | None = None,
    guidance: float | None = None,
    guidance_interval: str | None = None,
    guidance_rescale: float = 0.0,
    weak: Path | None = None,
    size: str | None = None,
    grid: Path | None = None,
    out: Path | None = None,
    previews: Path | None = None,
    tiny: Path | None = None,
    columns: int = 8,
    device: str = "auto",
    raw: bool = False,
) -> None:
    """Draw images. Image i depends on seed i (and the caption) alone, whatever else is drawn with it.

    calotype sample runs/mine --caption "red apple, 3d style" --seeds 0-15 --grid apples.png
    calotype sample --original cin/model.ckpt --config cin256-v2 --class 207 --seeds 0-3

    Args:
        model: What `calotype run` or `calotype train` made, or emoji: the model that comes with the package.
        original: A checkpoint of CompVis/latent-diffusion or Stable Diffusion v1 (.ckpt or .safetensors) instead.
        config: The original's YAML file, or the name of a released model (`calotype presets`).
        caption: What to draw, for models that take captions.
        negative: What to lead away from, in place of an empty caption.
        label: The class to draw, for models that take classes.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M).
        spacing: How the steps divide the way from noise to image; by default that of the model's schedule.
        guidance: Scale of classifier-free guidance: 1 is off, larger follows the caption more closely (default 3).
        guidance_interval: Guide only between these noise levels (sigma / alpha), such as 0.3-5: more variety.
        guidance_rescale: Share (0 to 1) by which colours that strong guidance overdrives are brought back.
        weak: Lead away from this model instead: an earlier checkpoint or a smaller one on the same latents (default
            guidance 2).
        size: Pixels of the images, 64 or (width x height) 96x64; by default as in training.
        grid: Write all images into this one PNG (default: samples.png if there is no --out).
        out: Write each image into this folder, as SEED.png (or .tif, where PNG does not hold its channels or depth).
        previews: Also write what the first image looks like after each step into this folder, as STEP.png.
        tiny: Draw the previews with this tiny decoder (`calotype train tiny-decoder`); without, in coarse colours.
        columns: Images per row of the grid.
        device: Where to compute: auto, cpu, cuda, mps.
        raw: Take the last weights instead of their moving average.
    """
    from calotype.cli.drawing import check_options, fields_for, write_images
    from calotype.cli.values import parse_interval, parse_seeds
    from calotype.diffusion import CFG
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.size import parse_size

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=columns, guidance=guidance, grid=grid)
    if guidance is None and (guidance_interval is not None or guidance_rescale):
        raise UserError("--guidance-interval and --guidance-rescale need a --guidance")
    if not 0 <= guidance_rescale <= 1:
        raise UserError(f"--guidance-rescale must be between 0 and 1, not {guidance_rescale}")
    interval = None if guidance_interval is None else parse_interval(guidance_interval)
    if tiny is not None and previews is None:
        raise UserError("--tiny draws previews: name a folder for them with --previews")
    ldm = _model(model, original, config, "raw" if raw else "ema").to(start_session(device).device)
    images = ldm.sample(
        seeds=numbers,
        steps=steps,
        spacing=spacing,
        guidance=None if guidance is None else CFG(guidance, interval=interval, rescale=guidance_rescale),
        negative=None if negative is None else {"caption": [negative] * len(numbers)},
        weak=None if weak is None else _model(str(weak), None, None, "ema").to(ldm.device),
        size=None if size is None else parse_size(size),
        clip=False,
        progress=True,
        watch=None if previews is None else _previewer(ldm, previews, tiny, steps),
        **fields_for(ldm, len(numbers), caption, label),
    )
    if previews is not None:
        print(f"previews: {previews}")
    write_images(ldm, images, names=numbers, out=out, grid=grid, columns=columns)


def _previewer(ldm: "LatentDiffusion", folder: Path, tiny: Path | None, steps: int) -> "Callable[[State], None]":
    """Return what writes a picture of the first image's expected outcome at each of its steps."""
    from calotype.tasks.preview import preview, tiny_decoder_for
    from calotype.utils.images import image_grid, save_png

    decoder = None if tiny is None else tiny_decoder_for(ldm, tiny)
    numbers = iter(range(1, steps + 1))

    def write(state: "State") -> None:
        if (number := next(numbers, None)) is not None:
            picture = preview(ldm, state.x0[:1], decoder)
            save_png(folder / f"{number:0{len(str(steps))}}.png", image_grid(picture, columns=1, padding=0))

    return write


def _model(model: str | None, original: Path | None, config: str | None, weights: Any) -> "LatentDiffusion":
    """Open what the user named: a model of ours, or an original checkpoint with its configuration."""
    from calotype.artifact import read_artifact
    from calotype.cli.values import model_folder
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.utils.errors import UserError

    if (model is None) == (original is None):
        raise UserError("name one model: MODEL, or --original CHECKPOINT --config YAML")
    if model is not None and config is None:
        return load_latent_diffusion(read_artifact(model_folder(model), kind=LatentDiffusion.kind), weights=weights)
    from calotype.interop.original import load_original
    from calotype.presets.released import released_config

    if original is None or config is None:
        raise UserError("--original and --config (the original's YAML file, or a released model's name) go together")
    ldm, report = load_original(original, released_config(config), weights=weights)
    print(report)
    if not isinstance(ldm, LatentDiffusion):
        raise UserError(f"{config} is an autoencoder alone: `calotype convert` it, then `calotype reconstruct`")
    return ldm
