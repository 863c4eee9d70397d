import pytest
import torch

from calotype.diffusion import Conditioning


def full(rows: int, tokens: int = 4) -> Conditioning:
    return Conditioning(
        context=torch.randn(rows, tokens, 5),
        context_mask=torch.ones(rows, tokens, dtype=torch.bool),
        vector=torch.randn(rows, 3),
        label=torch.arange(rows),
        concat=torch.randn(rows, 1, 2, 2),
    )


def test_cat_joins_every_slot_in_order():
    first, second = full(2), full(3)
    both = Conditioning.cat(first, second)
    assert len(both) == 5
    for name, value in both.slots().items():
        assert torch.equal(value[:2], getattr(first, name)), name
        assert torch.equal(value[2:], getattr(second, name)), name


def test_empty_conditionings_are_values_too():
    empty = Conditioning.cat(Conditioning(), Conditioning())
    assert len(empty) == 0
    assert empty.slots() == {}


@pytest.mark.parametrize("pair", [(Conditioning(), Conditioning(label=torch.arange(2))), (full(2), full(2, tokens=7))])
def test_cat_names_the_slot_that_differs(pair):
    with pytest.raises(ValueError, match=r"^(label|context): "):
        Conditioning.cat(*pair)


def test_to_changes_the_dtype_of_floating_slots_alone():
    half = full(2).to("cpu", torch.bfloat16)
    dtypes = {name: value.dtype for name, value in half.slots().items()}
    assert dtypes == {
        "context": torch.bfloat16,
        "context_mask": torch.bool,
        "vector": torch.bfloat16,
        "label": torch.int64,
        "concat": torch.bfloat16,
    }
