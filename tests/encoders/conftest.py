import pytest
import torch

from calotype.utils.seeds import generator


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(3, 3, 20, 24, generator=generator("pictures")) * 2 - 1
