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
    """Makes the recipe of a kind, with initial weights of its own per ``weights``.

    ``log_variance`` is diffusion on a table, with a learned log-variance, the bound and times by importance.
    """

    def make(kind: str, **options: int) -> Recipe:
        match kind:
            case "autoencoder":
                return tiny.autoencoder_recipe(**options)
            case "quantised":
                return tiny.quantised_recipe(**options)
            case "regularised":
                return tiny.regularised_recipe(**options)
            case "log_variance":
                return tiny.diffusion_recipe(encoded, **tiny.LEARNED, **options)
            case "tiny_decoder":
                return tiny.tiny_decoder_recipe(encoded, **options)
            case _:
                return tiny.diffusion_recipe(encoded, **options)

    return make
