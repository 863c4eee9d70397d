"""``calotype evaluate``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: str,
    out: Path | None = None,
    split: Literal["held-out", "all"] = "held-out",
    size: str | None = None,
    most: int = 10_000,
    vgg16: Path | None = None,
    lpips_heads: Path | None = None,
    inception: Path | None = None,
    samples: int = 384,
    likelihood: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Measure a trained model against images: numbers with their protocols, pictures and a report in a folder.

    An autoencoder: reconstruction (PSNR, SSIM, a perceptual distance, rFD and rKID on EfficientNet-Lite0 features),
    its latents, the use of its codes, and how well they suit a diffusion model. A diffusion model also: kernel and
    Frechet distance of samples, and whether they are found by their captions. Only a distance on the Inception
    network of FID, from a file of yours, is called FID.

    Args:
        model: What `calotype run` or `calotype train` made, or emoji: the model that comes with the package.
        data: The images it was trained on: a folder, or emoji, emoji:faces ...; held-out images are those of training.
        out: Folder for report.html, metrics.json and the pictures; by default beside the model, with -evaluation added.
        split: Which images the autoencoder is measured on: those held out from training, or all of a folder that
            training never saw.
        size: Pixels of the images that the autoencoder is measured on, 64 or (width x height) 96x64; by default as in
            training.
        most: The most images that the autoencoder is measured on.
        vgg16: File of VGG16 weights (LPIPS's own or torchvision's): LPIPS instead of a distance on SqueezeNet.
        lpips_heads: File of the channel weights of LPIPS, where the first has none.
        inception: File of the Inception weights of FID (pt_inception-2015-12-05-6726825d.pth): rFID as well.
        samples: How many samples to draw from a diffusion model.
        likelihood: Also measure bits per value of held-out images, by the variational bound and by the probability-flow
            ODE, with the parts of reconstruction and latents; takes minutes.
        seed: Seed of the first sample.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    from calotype.artifact import read_artifact, versions
    from calotype.chain.judge import MOST_REAL, examine_autoencoder, judge_likelihood, judge_samples
    from calotype.chain.report import metric_rows
    from calotype.chain.source import open_images, open_source
    from calotype.chain.stages import check_multiple
    from calotype.cli.values import check_positive, model_folder
    from calotype.evaluation import (
        Section,
        Table,
        build_report,
        evaluation_rows,
        likelihood_rows,
        load_instruments,
        text_table,
        write_evaluation,
    )
    from calotype.pipeline import LatentDiffusion, TrainedAutoencoder, load_autoencoder, load_latent_diffusion
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.size import height_width, parse_size

    if not 3 <= samples <= MOST_REAL:
        raise UserError(f"--samples must be between 3 and {MOST_REAL}, not {samples}")
    check_positive(most=most)
    if likelihood and split == "all":
        raise UserError("--likelihood fits the spread of pixels on training images: leave --split at held-out")
    if lpips_heads is not None and vgg16 is None:
        raise UserError("--lpips-heads needs --vgg16: they weigh the channels of that network")
    folder = _folder(model, out)
    artifact = read_artifact(model_folder(model))
    autoencoder = load_autoencoder(artifact)
    wanted = autoencoder.size if size is None else parse_size(size)
    check_multiple(wanted, autoencoder.model.factor, "this autoencoder")
    session = start_session(device)
    source = open_source(data) if split == "held-out" or artifact.kind == LatentDiffusion.kind else None
    images = open_images(data) if split == "all" or source is None else source.held_out
    images.in_format(autoencoder.pixel_format)
    autoencoder.model.to(session.device)
    channels = autoencoder.pixel_format.channels
    instruments = load_instruments(channels, session.device, vgg16=vgg16, lpips_heads=lpips_heads, inception=inception)
    found = examine_autoencoder(autoencoder, images, instruments, most=most, size=wanted)
    count, latents = found.metrics["reconstruction"]["n"], found.metrics["latents"]["shape"]
    shapes = f"{'x'.join(map(str, (channels, *height_width(wanted))))} to {'x'.join(map(str, latents))}"
    about = f"{type(autoencoder.model).__name__}, {shapes}, on {count} {split} images of {data}"
    print(about)
    print(text_table(evaluation_rows(found.metrics)))
    metrics: dict[str, Any] = {
        "model": model,
        "data": data,
        "split": split,
        "device": session.device.type,
        "versions": versions(),
        **found.metrics,
    }
    sections = []
    judged: LatentDiffusion | TrainedAutoencoder = autoencoder
    if artifact.kind == LatentDiffusion.kind:
        assert source is not None
        judged = ldm = load_latent_diffusion(artifact).to(session.device)
        judgement = judge_samples(ldm, source, session, count=samples, seed=seed, progress=True)
        if judgement.note:
            print(judgement.note)
        rows = []
        for name, drawn in judgement.sets.items():
            metrics[name] = drawn.metrics
            for label, value, scale, _ in metric_rows(drawn.metrics or {}):
                rows.append((name, label, value, scale))
                real = f" (real images or chance {scale:.4f})" if scale is not None else ""
                print(f"{name}: {label} {value:.4f}{real}")
        metrics["copies"] = judgement.copies
        print(f"copies of training images: {judgement.copies['copies']:.1%} of samples")
        table = Table(("samples for", "metric", "value", "real images or chance"), rows)
        sections.append(Section("Samples", "metrics.json has each number with its protocol.", tables=[table]))
    if likelihood:
        assert source is not None
        metrics["likelihood"] = bits = judge_likelihood(judged, source, most=most)
        print(text_table(likelihood_rows(bits)))
        found_bits = [(row.measure, row.value, row.scale) for row in likelihood_rows(bits)]
        table = Table(("measure", "value", "parts"), found_bits)
        sections.append(Section("Likelihood", bits["protocol"], tables=[table]))
    write_evaluation(
        folder, found, build_report(found, f"calotype: {Path(model).name}", f"{about}.", sections), metrics
    )
    print(f"report: {folder / 'report.html'}, numbers with their protocols: {folder / 'metrics.json'}")


def _folder(model: str, out: Path | None) -> Path:
    """Where to write: never over a run or its report.

    Raises:
        UserError: that is a file, or holds what calotype trained.
    """
    from calotype.utils.errors import UserError

    path = Path(model)
    folder = path.with_name(f"{path.resolve().name}-evaluation") if out is None else out
    if folder.is_file():
        raise UserError(f"{folder} is a file: --out is a folder")
    if (folder / "config.json").exists():
        raise UserError(f"{folder} holds what calotype trained: choose another --out")
    return folder
