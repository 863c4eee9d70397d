"""``calotype retrieve index``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    out: Path,
    device: str = "auto",
) -> None:
    """Make a data base of images for a model that was trained with --task retrieve; captions can be searched, too.

    calotype retrieve index runs/mine paintings/ --out paintings.safetensors

    Args:
        model: The model, whose encoder and image size count.
        data: A folder of images, or emoji, emoji:faces ...
        out: The file to write.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    from calotype.artifact import read_artifact
    from calotype.chain.source import open_all
    from calotype.chain.stages import loader
    from calotype.cli.values import model_folder
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.retrieve import build_index, neighbours_embedder, text_encoder_for
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError

    ldm = load_latent_diffusion(read_artifact(model_folder(model), kind=LatentDiffusion.kind))
    embedder = neighbours_embedder(ldm.conditioner.config)
    if embedder is None or embedder.encoder is None:
        raise UserError(f"{model} looks for no neighbours: train a model with --task retrieve")
    images = loader(open_all(data).in_format(ldm.pixel_format), ldm.first_stage.size, 0)
    text = text_encoder_for(images.images, embedder.encoder)
    index = build_index(images, embedder.encoder, text, device=start_session(device).device)
    index.save(out)
    print(f"index: {out} ({len(index)} images, {'images and words' if index.has_text else 'images'} can be looked for)")
