"""The model that comes with the package."""

from pathlib import Path

from calotype.utils.errors import UserError

FOLDER = Path(__file__).parent / "embedded"


def embedded_model() -> Path:
    """Return the folder of the embedded emoji model (an artifact; MODEL_CARD.md beside it says how it was made).

    Raises:
        UserError: the installation lacks it.
    """
    if not (FOLDER / "config.json").exists():
        raise UserError(f"this installation lacks the embedded model ({FOLDER})")
    return FOLDER
