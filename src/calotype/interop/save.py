"""An imported model as an artifact of ours: a folder that ``calotype.load`` opens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calotype.artifact import write_artifact
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.config import to_dict
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_folder


def save_artifact(
    model: LatentDiffusion | TrainedAutoencoder, folder: Path | str, provenance: Mapping[str, Any]
) -> None:
    """Write ``model`` into ``folder``, a new one, with ``provenance``: where it comes from.

    Raises:
        UserError: the folder exists already, or the disk is full.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; give a new folder")
    first_stage = model if isinstance(model, TrainedAutoencoder) else model.first_stage
    kind, config = "autoencoder", _first_stage_config(first_stage)
    components = {"autoencoder": first_stage.model.state_dict()}
    if isinstance(model, LatentDiffusion):
        kind = model.kind
        config |= {
            "network": to_dict(model.network.config),
            "conditioner": to_dict(model.conditioner.config),
            "schedule": to_dict(model.schedule),
            "prediction": model.prediction,
        }
        components |= {"network": model.network.state_dict(), "conditioner": model.conditioner.state_dict()}
    with atomic_folder(folder) as work:
        write_artifact(work, kind=kind, config=config, components=components, provenance=provenance)


def _first_stage_config(first_stage: TrainedAutoencoder) -> dict[str, Any]:
    model = first_stage.model
    return {
        "autoencoder": to_dict(model.config),
        "pixel_format": to_dict(first_stage.pixel_format),
        "size": first_stage.size,
        "latent": {"shift": model.latent_shift.tolist(), "scale": model.latent_scale.tolist()},
    }
