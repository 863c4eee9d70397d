"""What is known of a released model."""

from dataclasses import dataclass

from calotype.interop.original import OriginalConfig

PAPER = "arXiv:2112.10752"


@dataclass(frozen=True, kw_only=True)
class ReleasedModel:
    """A row: what its checkpoint holds (``original``), where it comes from and what was published about it.

    ``parameters`` counts those of the diffusion network, or of an autoencoder without its loss. ``published`` are
    numbers with their protocol, as their authors gave them; none of them was measured here. ``takes`` names the fields
    of a condition.
    """

    name: str
    summary: str
    original: OriginalConfig
    parameters: int
    checkpoint: str
    published: str
    takes: str = ""

    stage = "original"

    @property
    def reproduces(self) -> str:
        """What the list of presets shows last."""
        return self.published
