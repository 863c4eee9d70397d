"""The general-purpose autoencoders that come with the package: what training starts from where their shape fits.

``scripts/train_warm_start.py`` makes them; the MODEL_CARD.md of each says of what, and how good it is.
"""

from collections.abc import Mapping

from einops import reduce
from torch import Tensor

from calotype.artifact import read_artifact
from calotype.presets.autoencoders import WARM, AutoencoderPreset
from calotype.training.initial_weights import InitialWeights

FIRST, LAST = "encoder.conv_in", "decoder.conv_out"


def warm_start(preset: AutoencoderPreset, channels: int) -> InitialWeights | None:
    """Return weights for ``preset`` on images of ``channels``; None where the package has none that fit.

    They were trained on RGB. Grey images get those of a model that sees them in all three channels, and takes the mean
    of what it paints.
    """
    if not preset.starts_warm(channels):
        return None
    state = read_artifact(WARM / preset.name).weights("autoencoder")
    return InitialWeights(preset.name, state if channels == 3 else for_grey(state))


def for_grey(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum the first convolution over its three channels and average the last one, both with folded pixels behind."""
    first = reduce(state[f"{FIRST}.weight"].float(), "out (c fold) h w -> out fold h w", "sum", c=3)
    last = reduce(state[f"{LAST}.weight"].float(), "(c fold) features h w -> fold features h w", "mean", c=3)
    bias = reduce(state[f"{LAST}.bias"].float(), "(c fold) -> fold", "mean", c=3)
    return {**state, f"{FIRST}.weight": first, f"{LAST}.weight": last, f"{LAST}.bias": bias}
