"""Random numbers of a sampling run: image i depends on seed i alone."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.utils.seeds import generator


class NoiseSource:
    """Gaussian noise for a batch of images, one seed each, whatever the batch they are in or the device.

    Every image has two streams of its own, drawn on the CPU in float32: one for the noise it starts from, one for the
    noise that solvers add; so a source that only starts and a source that only steps never repeat one another.
    """

    def __init__(self, seeds: Iterable[int]) -> None:
        self.seeds = tuple(seeds)
        self._streams = [generator("sampling steps", seed) for seed in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def initial(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "b ..."]:
        """Return the x_T of every image, each of ``shape``; the same at every call."""
        return self._draw([generator("sampling start", seed) for seed in self.seeds], shape, dtype, device)

    def draw(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "b ..."]:
        """Return the next noise of every image, each of ``shape`` (without the batch); advances every stream."""
        return self._draw(self._streams, shape, dtype, device)

    @staticmethod
    def _draw(
        streams: list[torch.Generator], shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
    ) -> Tensor:
        draws = [torch.randn(*shape, generator=stream, dtype=torch.float32, device="cpu") for stream in streams]
        return torch.stack(draws).to(device=device, dtype=dtype)
