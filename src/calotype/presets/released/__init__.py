"""The models that were released with the paper and after it: shape, size, source, published numbers."""

from pathlib import Path

from calotype.interop.original import OriginalConfig, original_config
from calotype.presets.released.first_stages import FIRST_STAGES
from calotype.presets.released.latent_diffusion import LATENT_DIFFUSION
from calotype.presets.released.row import ReleasedModel
from calotype.utils.errors import UserError, nearest

__all__ = ["RELEASED", "ReleasedModel", "released_config"]

RELEASED: dict[str, ReleasedModel] = {row.name: row for row in (*FIRST_STAGES, *LATENT_DIFFUSION)}


def released_config(source: Path | str) -> OriginalConfig:
    """Return the configuration of a released model by its name, or read the original's YAML file.

    Raises:
        UserError: neither a released model nor a readable file is called that.
    """
    if str(source) in RELEASED:
        return RELEASED[str(source)].original
    if not Path(source).exists():
        hint = nearest(str(source), RELEASED)
        raise UserError(f"{source} is neither a YAML file nor a released model.{hint} `calotype presets` lists them")
    return original_config(source)
