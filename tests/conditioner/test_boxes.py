import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from calotype.conditioner import BoxesConfig, ConditionerConfig, TextEmbedderConfig
from calotype.models.unet import UNetConfig
from calotype.utils.boxes import Box, LayoutObject
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CONFIG = BoxesConfig(classes=("cat", "dog", "house"), channels=8, max_objects=4, frequencies=3, dropout=0.1)
CAT, DOG = {"class": "cat", "box": [0.1, 0.2, 0.3, 0.4]}, {"class": "dog", "box": [0.5, 0.0, 0.5, 1.0]}


def test_layouts_become_numbers() -> None:
    embedder = CONFIG.build()
    rows = embedder.prepare([[CAT, LayoutObject("house", Box(0, 0, 1, 1))], [], None])
    torch.testing.assert_close(rows[0, :2], torch.tensor([[0, 0.1, 0.2, 0.3, 0.4], [2, 0, 0, 1, 1]]))
    assert rows.shape == (3, 4, 5)
    assert (rows[0, 2:, 0] == -1).all()
    assert torch.equal(rows[1:], embedder.null(2))
    assert CONFIG.widths(4).context == 8


def test_a_token_is_the_equation_of_the_paper(randomised) -> None:
    embedder = randomised(CONFIG.build())
    context = embedder(embedder.prepare([[DOG]]).double()).context
    assert context.shape == (1, 4, 8)
    angles = [math.pi * 2**octave * edge for edge in DOG["box"] for octave in range(3)]
    seen = torch.tensor([[*map(math.sin, angles), *map(math.cos, angles)]], dtype=torch.float64)
    token = embedder.mlp(torch.cat([embedder.embedding.weight[1:2], seen], dim=1))
    torch.testing.assert_close(context[0, :1], token)


def test_the_network_sees_objects_in_no_order_and_nothing_behind_them(randomised) -> None:
    embedder = randomised(CONFIG.build())
    network = randomised(
        UNetConfig(
            in_channels=2, out_channels=2, channels=32, context_channels=8, transformer_depth=1, attention_factors=(1,)
        ).build()
    )
    x, t = torch.randn(1, 2, 8, 8, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)

    def output(config: BoxesConfig, layout: list[Any]) -> torch.Tensor:
        other = config.build().double()
        other.load_state_dict(embedder.state_dict())
        return network(x, t, **other(other.prepare([layout]).double()).slots())

    both = output(CONFIG, [CAT, DOG])
    torch.testing.assert_close(output(CONFIG, [DOG, CAT]), both)
    torch.testing.assert_close(output(replace(CONFIG, max_objects=9), [CAT, DOG]), both)
    for other in ([CAT], [CAT, {**DOG, "class": "house"}], [CAT, {**DOG, "box": [0.4, 0.0, 0.5, 1.0]}]):
        assert (output(CONFIG, other) - both).abs().max() > 1e-3


def test_missing_empty_dropped_and_null_are_exactly_one_thing(randomised) -> None:
    embedder = randomised(CONFIG.build())
    rows = embedder.prepare([None, [], [CAT, DOG], [CAT]]).double()
    found = embedder(rows, torch.tensor([False, False, True, False]))
    null = embedder(embedder.null(1).double())
    assert null.context_mask.tolist() == [[True, False, False, False]]
    assert torch.equal(null.context[0, 0], embedder.null_token)
    assert torch.equal(found.context[:3], null.context.expand(3, -1, -1))
    assert torch.equal(found.context_mask[:3], null.context_mask.expand(3, -1))
    assert found.context_mask[3].tolist() == [True, False, False, False]
    assert not torch.equal(found.context[3, 0], embedder.null_token)


def test_everything_learns() -> None:
    embedder = CONFIG.build()
    embedder(embedder.prepare([[CAT], None])).context.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in embedder.parameters())


def test_more_objects_than_fit_are_told(caplog: pytest.LogCaptureFixture) -> None:
    rows = CONFIG.build().prepare([[CAT, DOG, CAT, DOG, CAT]])
    assert rows[0, :, 0].tolist() == [0, 1, 0, 1]
    assert caplog.messages == ["only 4 of 5 objects fit into the layout"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("cat", "boxes must be a list of objects, not str"),
        (3, "boxes must be a list of objects, not int"),
        ([{"class": "dgo", "box": [0, 0, 1, 1]}], "class 'dgo' of the layout is unknown. Did you mean 'dog'?"),
        ([{**CAT, "box": [10, 20, 30, 40]}], "is outside of the image"),
        ([{"box": [0, 0, 1, 1]}], "needs a 'class' and a 'box'"),
    ],
)
def test_what_is_no_layout_is_refused(value: Any, said: str) -> None:
    embedder = CONFIG.build()
    assert embedder.takes([CAT])
    assert embedder.takes([])
    assert not embedder.takes(value)
    assert not embedder.takes(None)
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        embedder.prepare([value])


def test_boxes_and_words_go_together() -> None:
    words = TextEmbedderConfig(vocabulary=("a",), channels=8, layers=1)
    conditioner = ConditionerConfig(embedders=(words, CONFIG)).build()
    found = conditioner.embed({"caption": ["a"], "boxes": [[CAT]]}, 1, torch.device("cpu"))
    assert found.context.shape[2] == 8
    assert found.context_mask[0, -4:].tolist() == [True, False, False, False]
    assert isinstance(conditioner.embedders["boxes"], nn.Module)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": []}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"channels": 0}, "channels"),
        ({"max_objects": 0}, "max_objects"),
        ({"frequencies": 0}, "frequencies"),
        ({"dropout": 2.0}, "dropout"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(BoxesConfig, to_dict(CONFIG)) == CONFIG
    with pytest.raises(UserError, match=rf"^config: .*{field}"):
        from_dict(BoxesConfig, {**to_dict(CONFIG), **change})


def test_objects_are_drawn_where_their_boxes_are(randomised) -> None:
    config = replace(CONFIG, map_channels=3)
    embedder = randomised(config.build())
    half = {"class": "dog", "box": [0.0, 0.0, 0.5, 1.0]}
    cell = {"class": "cat", "box": [0.75, 0.25, 0.0625, 0.25]}
    inputs = embedder.prepare([[half, cell], [half], None], (4, 8)).double()
    conditioning = embedder(inputs, torch.tensor([False, True, False]))
    concat = conditioning.concat
    assert config.widths(4).concat == concat.shape[1] == 3
    dog, cat = (embedder.map(embedder.embedding.weight[i]) for i in (1, 0))
    torch.testing.assert_close(concat[0, :, :, :4], dog[:, None, None].expand(-1, 4, 4))
    torch.testing.assert_close(concat[0, :, 1, 6], cat / 2, msg="half a latent is covered")
    assert concat[0, :, 1, 4:6].abs().max() == 0
    assert concat[0, :, 2:, 4:].abs().max() == 0
    assert concat[1:].abs().max() == 0, "dropped and missing"
    torch.testing.assert_close(
        conditioning.context[:1], embedder(embedder.prepare([[half, cell]], (8, 16)).double()).context
    )
    assert torch.equal(embedder.null(1, (4, 8)), inputs[2:].float())


def test_a_map_has_the_size_of_the_image() -> None:
    embedder = replace(CONFIG, map_channels=3).build()
    with pytest.raises(UserError, match="boxes: this model needs a value"):
        embedder.prepare([[CAT]])
    narrow = embedder(embedder.prepare([[DOG]], (4, 2)))
    assert narrow.concat.shape == (1, 3, 4, 2)
    torch.testing.assert_close(
        narrow.concat[0, :, :, 1], embedder.map(embedder.embedding.weight[1])[:, None].expand(-1, 4)
    )
    torch.testing.assert_close(narrow.context, embedder(embedder.prepare([[DOG]], (8, 8))).context)


def test_an_unknown_class_is_told_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match=r"class 'zzz' of the layout is unknown. Known are cat, dog, house$"):
        CONFIG.build().prepare([[{**CAT, "class": "zzz"}]])
