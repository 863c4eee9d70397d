from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch

from calotype.conditioner import (
    ClassEmbedderConfig,
    Conditioner,
    ConditionerConfig,
    Embedder,
    EncodedImageConfig,
    FieldConfig,
    LabelEmbedderConfig,
    PassThroughConfig,
    SpatialRescalerConfig,
    TextEmbedderConfig,
    Widths,
)
from calotype.diffusion.conditioning import Conditioning
from calotype.models.autoencoder import IdentityAutoencoderConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CAPTION = TextEmbedderConfig(
    vocabulary=("apple", "red"), length=4, channels=12, layers=1, heads=2, dropout=0.2, keyword_field="tags"
)
TITLE = replace(CAPTION, field="title", vocabulary=("fruit", "apple", "no"), length=3, dropout=0.0)
CLASS = LabelEmbedderConfig(classes=("cat", "dog"), dropout=1.0)
THREE = ConditionerConfig(embedders=(CAPTION, CLASS, TITLE))
FIELDS = {"caption": ["red apple", "apple"], "class": ["dog", None], "title": ["fruit", "no apple"]}
CPU = torch.device("cpu")


def test_embedders_join_in_their_order(randomised) -> None:
    conditioner = randomised(THREE.build())
    assert conditioner.fields == ("caption", "class", "title")
    joined = conditioner.embed(FIELDS, 2, CPU)
    alone = {name: embedder(embedder.prepare(FIELDS[name])) for name, embedder in conditioner.embedders.items()}
    assert joined.context.shape == (2, 4 + 3, 12)
    for slot in ("context", "context_mask", "vector"):
        parts = [getattr(alone[name], slot) for name in ("caption", "title")]
        assert torch.equal(getattr(joined, slot), torch.cat(parts, dim=1)), slot
    assert torch.equal(joined.label, torch.tensor([1, 2]))
    assert joined.concat is None


def test_no_embedders_make_an_empty_conditioning() -> None:
    conditioner = ConditionerConfig().build()
    assert conditioner.embed({}, 3, CPU).slots() == {}
    assert conditioner(conditioner.prepare({"caption": ["red"]}, 1), {}).slots() == {}
    with pytest.raises(UserError, match=r"takes no 'caption'.*unconditional"):
        conditioner.embed({"caption": ["red"]}, 1, CPU)


def test_null_is_what_missing_fields_missing_values_and_dropped_rows_become(randomised) -> None:
    conditioner = randomised(THREE.build())
    null = conditioner.embed({}, 2, CPU)
    everywhere = dict.fromkeys(conditioner.fields, torch.tensor([True, True]))
    for same in (
        conditioner.embed({name: [None, None] for name in FIELDS}, 2, CPU),
        conditioner(conditioner.prepare(FIELDS, 2), everywhere),
    ):
        for slot, value in null.slots().items():
            assert torch.equal(getattr(same, slot), value), slot


def test_tokens_without_a_mask_are_all_seen(randomised) -> None:
    kind = ClassEmbedderConfig(field="kind", classes=3, channels=12, null_class=2)
    conditioner = randomised(ConditionerConfig(embedders=(kind, CAPTION)).build())
    joined = conditioner.embed({"kind": [0, 1], "caption": ["red apple", ""]}, 2, CPU)
    assert joined.context.shape == (2, 1 + 4, 12)
    assert joined.context_mask.tolist() == [[True] * 4 + [False], [True] * 2 + [False] * 3]


def test_images_of_several_fields_are_joined() -> None:
    low = PassThroughConfig(field="low", slot="concat", channels=2)
    conditioner = ConditionerConfig(embedders=(low, SpatialRescalerConfig(in_channels=4), EncodedImageConfig())).build()
    conditioner.attach(IdentityAutoencoderConfig().build())
    pair = torch.zeros(3, 2, 2), torch.ones(1, 2, 2)
    fields = {"low": torch.randn(1, 2, 2, 2), "segmentation": [torch.ones(4, 4).long()], "masked_image": [pair]}
    concat = conditioner.embed(fields, 1, CPU).concat
    assert concat.shape == (1, 2 + 4 + 4, 2, 2)
    assert torch.equal(concat[:, :2], fields["low"])
    assert not conditioner.state_dict()
    null = conditioner.embed_null(fields, 1, CPU).concat
    assert null[:, :6].abs().max() == 0
    assert torch.equal(null[:, 6:], torch.tensor([-1.0, -1, -1, 1]).view(1, 4, 1, 1).expand(-1, -1, 2, 2))


def test_the_null_of_guidance_is_that_of_missing_fields(randomised) -> None:
    conditioner = randomised(THREE.build())
    assert conditioner.has_null
    null = conditioner.embed({}, 2, CPU)
    for name, value in conditioner.embed_null(FIELDS, 2, CPU).slots().items():
        assert torch.equal(getattr(null, name), value), name


def test_without_a_null_there_is_no_guidance() -> None:
    conditioner = ConditionerConfig(embedders=(ClassEmbedderConfig(channels=12),)).build()
    assert not conditioner.has_null
    assert conditioner.embed({"class": [3]}, 1, CPU).context.shape == (1, 1, 12)
    with pytest.raises(UserError, match=r"^this model was trained without a null for 'class': guidance must be 1$"):
        conditioner.embed_null({"class": [3]}, 1, CPU)
    with pytest.raises(UserError, match=r"^class: this model needs a value for every image$"):
        conditioner.embed({}, 1, CPU)


def test_guidance_keeps_the_conditions_that_have_no_null(randomised) -> None:
    embedders = ClassEmbedderConfig(channels=12), replace(CAPTION, dropout=0.0)
    conditioner = randomised(ConditionerConfig(embedders=embedders).build())
    assert conditioner.has_null
    condition = conditioner.embed({"class": [3], "caption": ["red apple"]}, 1, CPU)
    null = conditioner.embed_null({"class": [3], "caption": ["red apple"]}, 1, CPU)
    assert torch.equal(null.context[:, 0], condition.context[:, 0]), "the class is kept"
    assert not torch.equal(null.context[:, 1:], condition.context[:, 1:]), "the caption is not"


def test_images_have_a_null_of_the_size_that_is_asked_for() -> None:
    low = PassThroughConfig(field="low", slot="concat", channels=2)
    maps = SpatialRescalerConfig(in_channels=4, stages=0)
    conditioner = ConditionerConfig(embedders=(low, maps, EncodedImageConfig())).build()
    conditioner.attach(IdentityAutoencoderConfig().build())
    nulls = [conditioner.embed({}, 1, CPU, (4, 8)), conditioner.embed_null({}, 1, CPU, (4, 8))]
    assert nulls[0].concat.shape == (1, 2 + 4 + 4, 4, 8)
    assert torch.equal(nulls[0].concat, nulls[1].concat)
    given = {"low": [torch.randn(2, 4, 8), None], "segmentation": [None, torch.ones(4, 8).long()]}
    mixed = conditioner.embed(given, 2, CPU, (4, 8)).concat
    assert torch.equal(mixed[0, 2:6], nulls[0].concat[0, 2:6])
    assert torch.equal(mixed[1, :2], nulls[0].concat[0, :2])


def test_widths_are_what_the_slots_hold() -> None:
    embedders = (
        CAPTION,
        CLASS,
        PassThroughConfig(field="low", slot="concat", channels=2),
        PassThroughConfig(field="palette", slot="vector", channels=5),
        EncodedImageConfig(),
    )
    config = ConditionerConfig(embedders=embedders)
    widths, conditioner = config.widths(3), config.build()
    conditioner.attach(IdentityAutoencoderConfig().build())
    slots = conditioner.embed({}, 2, CPU, (4, 4)).slots()
    assert widths == (slots["context"].shape[2], slots["vector"].shape[1], slots["concat"].shape[1], 3)
    assert ConditionerConfig().widths(3) == (0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class ExposureConfig(FieldConfig):
    kind: Literal["exposure"] = "exposure"
    field: str = "exposure"
    dropout: float = 0.1

    def widths(self, latent_channels: int) -> Widths:
        return Widths(vector=1)

    def build(self) -> "Exposure":
        return Exposure(self)


class Exposure(Embedder):
    def __init__(self, config: ExposureConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout

    def takes(self, value: Any) -> bool:
        return isinstance(value, float)

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> torch.Tensor:
        return torch.tensor([[0.0 if value is None else value] for value in values])

    def null(self, count: int, size: tuple[int, int] | None = None) -> torch.Tensor:
        return torch.zeros(count, 1)

    def forward(self, inputs: torch.Tensor, drop: torch.Tensor | None = None) -> Conditioning:
        return Conditioning(vector=inputs if drop is None else torch.where(drop[:, None], 0.0, inputs))


def test_an_embedder_of_ones_own_is_one_configuration_and_one_module() -> None:
    config = ConditionerConfig(embedders=(ExposureConfig(), CLASS))
    assert from_dict(ConditionerConfig, to_dict(config)) == config
    conditioning = config.build().embed({"exposure": [0.5, None], "class": ["dog", "cat"]}, 2, CPU)
    assert conditioning.vector.tolist() == [[0.5], [0.0]]


def test_a_kind_has_one_configuration() -> None:
    with pytest.raises(TypeError, match="the kind 'text' is that of TextEmbedderConfig; choose another"):
        type("Mine", (FieldConfig,), {"kind": "text"})
    with pytest.raises(TypeError, match="Mine needs a kind"):
        type("Mine", (FieldConfig,), {})
    with pytest.raises(UserError, match=r"'tex' .*'text'"):
        from_dict(ConditionerConfig, {"embedders": [{"kind": "tex", "field": "caption"}]})


def test_rows_and_fields_are_dropped_apart(randomised) -> None:
    conditioner = randomised(THREE.build())
    inputs, null = conditioner.prepare(FIELDS, 2), conditioner.embed({}, 2, CPU)
    kept, dropped = conditioner(inputs), conditioner(inputs, {"caption": torch.tensor([True, False])})
    assert torch.equal(dropped.context[0, :4], null.context[0, :4])
    assert torch.equal(dropped.context[:, 4:], kept.context[:, 4:])
    assert torch.equal(dropped.context[1], kept.context[1])
    assert torch.equal(dropped.label, kept.label)


def test_rows_are_dropped_by_the_share_of_each_embedder() -> None:
    uniform = {name: torch.tensor([0.0, 0.19, 0.2, 0.99]) for name in FIELDS}
    drop = {name: rows.tolist() for name, rows in THREE.build().draw_drop(uniform).items()}
    assert drop == {"caption": [True, True, False, False], "class": [True] * 4, "title": [False] * 4}


def test_training_values_depend_on_their_key_alone() -> None:
    conditioner = THREE.build()
    count = 12
    fields = {"caption": ["apple"] * count, "tags": [["red"], []] * (count // 2), "class": ["dog"] * count}
    keys = [(0, "augment", index) for index in range(count)]
    tokens = conditioner.prepare_training(fields, count, keys)["caption"]
    assert {tuple(row) for row in tokens[::2].tolist()} == {(0, 1, 0, 0), (0, 1, 2, 0)}, "some get the keyword"
    assert {tuple(row) for row in tokens[1::2].tolist()} == {(0, 1, 0, 0)}, "these have none"
    order = [5, 2, 11]
    some = {name: [values[index] for index in order] for name, values in fields.items()}
    again = conditioner.prepare_training(some, 3, [keys[index] for index in order])
    assert torch.equal(again["caption"], tokens[order])
    other = conditioner.prepare_training(fields, count, [(1, "augment", index) for index in range(count)])
    assert not torch.equal(other["caption"], tokens)
    assert again["class"].tolist() == [1, 1, 1]
    assert torch.equal(again["title"], conditioner.prepare({}, 3)["title"])


def test_an_unknown_field_is_refused_with_the_nearest() -> None:
    conditioner = THREE.build()
    with pytest.raises(
        UserError, match=r"takes no 'captoin' \(it takes caption, class, title\). Did you mean 'caption'\?"
    ):
        conditioner.embed({"captoin": ["red"]}, 1, CPU)


def test_a_value_for_every_image() -> None:
    with pytest.raises(UserError, match="class: 1 values for 2 images"):
        THREE.build().embed({"class": ["dog"]}, 2, CPU)


@pytest.mark.parametrize("config", [THREE, ConditionerConfig(), ConditionerConfig(embedders=(CLASS,))])
def test_configurations_survive_a_round_trip(config: ConditionerConfig) -> None:
    assert from_dict(ConditionerConfig, to_dict(config)) == config
    assert isinstance(config.build(), Conditioner)


@pytest.mark.parametrize(
    ("embedders", "message"),
    [
        ((CLASS, CLASS), "one embedder only"),
        ((CLASS, replace(CLASS, field="style")), "at most one may be of kind 'label'"),
        ((CAPTION, replace(TITLE, channels=8)), r"same channels, not \[8, 12\]"),
        ((replace(CAPTION, field="type"),), "'type' cannot be a field's name"),
        ((replace(CAPTION, field="a.b"),), "'a.b' cannot be a field's name"),
    ],
)
def test_embedders_that_do_not_go_together_are_refused(embedders: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^embedders: .*{message}"):
        ConditionerConfig(embedders=embedders)


@pytest.mark.parametrize(
    ("embedder", "message"),
    [
        ({**to_dict(CLASS), "kind": "lable"}, "'lable'.*'label'"),
        ({**to_dict(CLASS), "clases": ["cat"]}, "embedders.0.label.clases"),
        ({**to_dict(CLASS), "classes": []}, "embedders.0.label: .*classes"),
    ],
)
def test_a_wrong_embedder_is_named(embedder: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"^conditioner: .*{message}"):
        from_dict(ConditionerConfig, {"embedders": [embedder]}, where="conditioner")
