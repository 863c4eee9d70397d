from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tiny
from calotype.training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="session", autouse=True)
def _short_previews() -> Iterator[None]:
    """Every run ends with a preview; two steps are enough for a picture that nobody looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calotype.training.diffusion_recipe.PREVIEW_STEPS", 2)
        yield


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an autoencoder's artifact."""
    return tiny.autoencoder_artifact(tmp_path_factory.mktemp("encoded") / "autoencoder").folder


@pytest.fixture(scope="session")
def make_recipe(encoded: Path) -> MakeRecipe:
    """Makes the recipe of a kind, with initial weights of its own per ``weights``."""

    def make(kind: str, **options: int) -> Recipe:
        return (
            tiny.autoencoder_recipe(**options) if kind == "autoencoder" else tiny.diffusion_recipe(encoded, **options)
        )

    return make
