import json
from dataclasses import FrozenInstanceError, dataclass
from typing import Annotated, Literal

import pytest
from pydantic import Field

from calotype.utils.config import Config, from_dict, to_dict
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Round(Config):
    kind: Literal["round"] = "round"
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Square(Config):
    kind: Literal["square"] = "square"
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError(f"radius must be positive, not {self.radius}")


Shape = Annotated[Round | Square, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class Picture(Config):
    size: int
    shapes: tuple[Shape, ...] = ()
    title: str | None = None


PICTURE = Picture(size=3, shapes=(Square(radius=2.0), Round()), title="ü")


def test_round_trip_through_json_keeps_variants() -> None:
    data = json.loads(json.dumps(to_dict(PICTURE)))
    assert data["shapes"][0] == {"kind": "square", "radius": 2.0}
    assert from_dict(Picture, data) == PICTURE
    assert isinstance(from_dict(Shape, {"kind": "square"}), Square)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"size": 3, "sise": 4}, "where: sise: "),
        ({}, "where: size: "),
        ({"size": "large"}, "where: size: "),
        ({"size": 3, "shapes": [{"kind": "oval"}]}, r"where: shapes.0: .*'round', 'square'"),
        (
            {"size": 3, "shapes": [{"kind": "square", "radius": -1}]},
            r"where: shapes.0.square: .*radius must be positive",
        ),
        ({"size": "large", "title": 3}, r"where: size: .*\(and 1 more\)"),
    ],
)
def test_mistakes_are_one_line_that_names_the_field(data: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as error:
        from_dict(Picture, data, where="where")
    assert "\n" not in str(error.value)


def test_configurations_are_frozen_and_by_keyword() -> None:
    with pytest.raises(FrozenInstanceError):
        PICTURE.size = 4
    with pytest.raises(TypeError):
        Picture(3)
