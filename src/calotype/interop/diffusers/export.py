"""A model as a folder that diffusers opens; written without it."""

import logging
from pathlib import Path

from calotype.interop.diffusers.card import card
from calotype.interop.diffusers.layout import VERSION
from calotype.interop.diffusers.parts import Part, autoencoder_part, parts_of
from calotype.interop.diffusers.weights import WEIGHTS
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_folder, atomic_write, write_json
from calotype.utils.size import height_width
from calotype.utils.tensors import save_tensors

log = logging.getLogger("calotype")
STEPS = 50


def export_diffusers(model: LatentDiffusion | TrainedAutoencoder, folder: Path | str) -> Path:
    """Write ``model`` into ``folder``, which must not exist yet, and return the folder.

    An autoencoder lies in the folder itself, as ``AutoencoderKL.from_pretrained(folder)`` expects it. A latent
    diffusion model becomes a folder for each part, with a ``model_index.json`` (what
    ``DiffusionPipeline.from_pretrained(folder)`` opens) where a pipeline of diffusers draws what the model draws. Where
    none does, because diffusers has no image of the embedder of captions, say, it is said in one line, and README.md
    has the dozen lines of Python that draw with the parts.

    Where normalising the latents takes more than one factor, it is folded into the 1x1 convolutions of an
    AutoencoderKL, whose latents in diffusers are the normalised ones. A VQModel, whose nearest codes that would change,
    stays as it is, and README.md has the numbers.

    Raises:
        UserError: the folder exists, or an option has no image in diffusers; it names the option and the reason.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; give a new folder")
    if isinstance(model, TrainedAutoencoder):
        part = autoencoder_part(model.model, max(height_width(model.size)))
        with atomic_folder(folder) as work:
            _write(work, part)
        return folder
    parts = parts_of(model)
    with atomic_folder(folder) as work:
        for name, part in parts.folders.items():
            _write(work / name, part)
        if parts.pipeline is not None:
            entries = {name: ["diffusers", part.name] for name, part in parts.folders.items()}
            stamp = {"_class_name": parts.pipeline, "_diffusers_version": VERSION}
            write_json(work / "model_index.json", stamp | entries)
        with atomic_write(work / "README.md") as temporary:
            temporary.write_text(card(model, parts, STEPS), encoding="utf-8")
    if parts.lack is not None:
        log.warning("%s holds no pipeline: %s; its README.md draws with the parts", folder, parts.lack)
    return folder


def _write(folder: Path, part: Part) -> None:
    folder.mkdir(exist_ok=True)
    if part.state is None:
        write_json(folder / "scheduler_config.json", part.config)
    else:
        write_json(folder / "config.json", part.config)
        save_tensors(folder / WEIGHTS, part.state)
