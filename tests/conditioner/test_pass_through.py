from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from calotype.conditioner import PassThroughConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

VECTOR = PassThroughConfig(field="embedding", slot="vector", channels=3, dropout=0.1)
CONTEXT = replace(VECTOR, field="neighbours", slot="context")
CONCAT = replace(VECTOR, field="low_resolution", slot="concat")
ROWS = {"vector": (3,), "context": (2, 3), "concat": (3, 4, 5)}


@pytest.mark.parametrize("config", [VECTOR, CONTEXT, CONCAT])
def test_values_fill_the_slot(config: PassThroughConfig) -> None:
    embedder, values = config.build(), torch.randn(4, *ROWS[config.slot])
    assert not embedder.state_dict()
    mixed = [values[0], values[1].numpy(), values[2].tolist(), values[3]]
    conditioning = embedder(embedder.prepare(mixed))
    assert conditioning.slots().keys() == {config.slot}
    assert torch.equal(getattr(conditioning, config.slot), values)


@pytest.mark.parametrize("config", [VECTOR, CONTEXT, CONCAT])
def test_dropped_and_missing_are_zeros_of_the_same_shape(config: PassThroughConfig) -> None:
    embedder, values = config.build(), torch.randn(2, *ROWS[config.slot])
    inputs = embedder.prepare([values[0], None, values[1]])
    filled = getattr(embedder(inputs, torch.tensor([True, False, False])), config.slot)
    assert torch.equal(filled, torch.stack([torch.zeros_like(values[0]), torch.zeros_like(values[0]), values[1]]))


def test_alone_the_null_is_one_vector_or_token_of_zeros() -> None:
    assert torch.equal(VECTOR.build().prepare([None, None]), torch.zeros(2, 3))
    assert torch.equal(CONTEXT.build().null(2), torch.zeros(2, 1, 3))
    with pytest.raises(UserError, match=r"^low_resolution: this model needs a value for every image$"):
        CONCAT.build().null(2)


def test_without_a_null_every_image_needs_a_value() -> None:
    embedder = replace(VECTOR, null="none", dropout=0.0).build()
    assert VECTOR.build().has_null
    assert not embedder.has_null
    for refused in (lambda: embedder.null(1), lambda: embedder.prepare([torch.zeros(3), None])):
        with pytest.raises(UserError, match=r"^embedding: this model needs a value for every image$"):
            refused()


@pytest.mark.parametrize(
    ("config", "value", "message"),
    [
        (VECTOR, torch.zeros(4), "embedding must be arrays of 3, not torch.float32 of shape (4,)"),
        (VECTOR, "fox", "embedding must be arrays of 3, not str"),
        (CONTEXT, np.zeros((2, 2)), "neighbours must be arrays of n x 3, not float64 of shape (2, 2)"),
        (CONTEXT, torch.zeros(0, 3), "neighbours must be arrays of n x 3, not torch.float32 of shape (0, 3)"),
        (CONCAT, [[1.0]], "low_resolution must be arrays of 3 x height x width, not list"),
        (CONCAT, [[1.0], [1.0, 2.0]], "low_resolution must be arrays of 3 x height x width, not list"),
    ],
)
def test_what_has_another_shape_is_refused(config: PassThroughConfig, value: Any, message: str) -> None:
    embedder = config.build()
    assert not embedder.takes(value)
    with pytest.raises(UserError) as refused:
        embedder.prepare([value])
    assert str(refused.value) == message


def test_values_of_one_batch_have_one_shape() -> None:
    with pytest.raises(UserError, match=r"all of one shape in a batch, not \[\(1, 3\), \(2, 3\)\]"):
        CONTEXT.build().prepare([torch.zeros(2, 3), torch.zeros(1, 3)])


@pytest.mark.parametrize(
    ("change", "field"), [({"channels": 0}, "channels"), ({"slot": "label"}, "slot"), ({"null": "none"}, "dropout")]
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(PassThroughConfig, to_dict(VECTOR)) == VECTOR
    with pytest.raises(UserError, match=rf"^config: .*{field}"):
        from_dict(PassThroughConfig, {**to_dict(VECTOR), **change})
