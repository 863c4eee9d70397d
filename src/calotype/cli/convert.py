"""``calotype convert``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from calotype.pipeline import LatentDiffusion, TrainedAutoencoder

    Model = LatentDiffusion | TrainedAutoencoder

Weights = Literal["ema", "raw"]


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    out: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = None,
    /,
    *,
    config: str | None = None,
    to: Literal["calotype", "original", "diffusers"] = "calotype",
    weights: Weights = "ema",
    keys: bool = False,
) -> None:
    """Bring a model from one form into another: checkpoints of CompVis/latent-diffusion, diffusers, calotype.

    A checkpoint of the original (.ckpt, .safetensors) becomes a folder that every verb takes; a report says what became
    of each of its tensors. Nothing in it is executed:

    calotype convert model.ckpt imported --config cin256-v2.yaml

    Any model as a folder for diffusers, or as one file with the original's keys and its YAML beside it:

    calotype convert runs/mine mine-diffusers --to diffusers

    calotype convert runs/mine mine.safetensors --to original

    What a checkpoint of a configuration holds, as JSON {key: [shape]}:

    calotype convert cin256-v2.yaml --keys

    Args:
        model: A checkpoint of the original, or a folder of calotype or diffusers; with --keys, a configuration.
        out: Where to write: a new folder, or a file that ends in .safetensors for --to original.
        config: The original's YAML file for the checkpoint, or the name of a released model (`calotype presets`).
        to: What to write.
        weights: The moving average of the weights where there is one, or the raw ones.
        keys: Print the keys of a configuration's checkpoint and convert nothing.
    """
    from calotype.utils.errors import UserError

    if keys:
        from calotype.interop.original import original_keys
        from calotype.presets.released import released_config

        print(json.dumps(original_keys(released_config(model))))
        return
    if out is None:
        raise UserError("say where to write: calotype convert MODEL OUT")
    opened, provenance = _open(model, config, weights)
    if to == "original":
        from calotype.interop.original import save_original

        save_original(opened, out)
    elif to == "diffusers":
        from calotype.interop.diffusers import export_diffusers

        export_diffusers(opened, out)
    else:
        from calotype.interop.save import save_artifact

        save_artifact(opened, out, provenance)
    print(f"written: {out}")


def _open(model: str, config: str | None, weights: Weights) -> tuple["Model", dict[str, Any]]:
    """Return the model and where it comes from."""
    from calotype.cli.values import model_folder
    from calotype.utils.errors import UserError

    path = model_folder(model)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_file():
        return _open_original(path, config, weights)
    if config is not None:
        raise UserError(f"--config belongs to a checkpoint of the original, but {path} is a folder")
    if _is_ours(path):
        from calotype.pipeline import LatentDiffusion, TrainedAutoencoder, load

        opened = load(path, weights=weights)
        if not isinstance(opened, LatentDiffusion | TrainedAutoencoder):
            raise UserError(f"{path} holds a {type(opened).__name__}, which no other form has a place for")
        return opened, {"copied": str(path)}
    from calotype.interop.diffusers import load_diffusers

    return load_diffusers(path), {"imported": {"folder": path.name, "weights": "raw"}}


def _open_original(path: Path, config: str | None, weights: Weights) -> tuple["Model", dict[str, Any]]:
    from calotype.interop.original import load_original
    from calotype.presets.released import released_config
    from calotype.utils.errors import UserError
    from calotype.utils.files import digest

    if config is None:
        raise UserError(f"{path} needs its configuration: --config FILE.yaml, or the name of a released model")
    opened, report = load_original(path, released_config(config), weights=weights)
    print(report)
    source = {"file": path.name, "hash": digest(path), "configuration": Path(config).name, "weights": weights}
    return opened, {"imported": source}


def _is_ours(folder: Path) -> bool:
    from calotype.artifact import FORMAT
    from calotype.utils.files import read_json

    path = folder / "config.json"
    data = read_json(path) if path.is_file() else None
    return isinstance(data, dict) and data.get("format") == FORMAT
