"""What of a latent diffusion model goes into which folder, and which pipeline of diffusers computes the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from calotype.conditioner.embedders.pass_through import PassThroughConfig
from calotype.diffusion.schedule import Flow
from calotype.interop.diffusers.autoencoder_config import autoencoder_config_to_diffusers
from calotype.interop.diffusers.layout import refuse
from calotype.interop.diffusers.scheduler_config import scheduler_to_diffusers
from calotype.interop.diffusers.unet_config import unet_config_to_diffusers
from calotype.interop.diffusers.unet_layouts import UNET
from calotype.interop.diffusers.weights import autoencoder_to_diffusers, unet_to_diffusers
from calotype.interop.latents import fold_statistics, scaling_factor
from calotype.models import Network
from calotype.models.autoencoder import Autoencoder, AutoencoderKL, ConvolutionalAutoencoder, IdentityAutoencoder
from calotype.models.unet import UNet
from calotype.pipeline import LatentDiffusion
from calotype.utils.size import height_width


@dataclass(frozen=True)
class Part:
    """A configuration of diffusers and its weights; a scheduler has none."""

    config: Mapping[str, Any]
    state: Mapping[str, Tensor] | None = None

    @property
    def name(self) -> str:
        """The class."""
        return str(self.config["_class_name"])


@dataclass(frozen=True)
class Parts:
    """The parts by the name of their folder; the pipeline that they make, or what stands in its way."""

    folders: Mapping[str, Part]
    pipeline: str | None
    lack: str | None = None


def parts_of(model: LatentDiffusion) -> Parts:
    """Take a model apart.

    Raises:
        UserError: an option that has no image in diffusers, and why.
    """
    size, autoencoder = max(height_width(model.first_stage.size)), model.autoencoder
    unet = unet_part(model.network, size // autoencoder.factor)
    pipeline, lack = _pipeline(model, unet.name)
    folders = {"unet": unet, "scheduler": Part(scheduler_to_diffusers(model.schedule, model.prediction))}
    if isinstance(autoencoder, ConvolutionalAutoencoder):
        first = autoencoder_part(autoencoder, size)
        folders = {"vae" if pipeline is None and first.name == "AutoencoderKL" else "vqvae": first} | folders
    return Parts(folders, pipeline, lack)


def unet_part(network: Network, sample_size: int) -> Part:
    """Return a network for latents of ``sample_size``."""
    if not isinstance(network, UNet):
        raise refuse(f"a network of the class {type(network).__name__}", "its transformers compute something else")
    groups = _groups(network)
    config = unet_config_to_diffusers(network.config, sample_size, max(groups))
    _check_groups(groups)
    return Part(config, unet_to_diffusers(network))


def autoencoder_part(model: Autoencoder, size: int) -> Part:
    """Return an autoencoder for images of ``size``, its latents normalised by one factor where that can be."""
    if not isinstance(model, ConvolutionalAutoencoder):
        raise refuse(type(model).__name__, "its models of pixels have no autoencoder")
    factor, groups = scaling_factor(model), _groups(model)
    config = autoencoder_config_to_diffusers(model.config, size, max(groups), 1.0 if factor is None else factor)
    _check_groups(groups)
    state = autoencoder_to_diffusers(model)
    if factor is None and isinstance(model, AutoencoderKL):
        state = fold_statistics(model, state)
    return Part(config, state)


def _pipeline(model: LatentDiffusion, unet: str) -> tuple[str | None, str | None]:
    """Return the pipeline that draws what the model draws, or None and the reason."""
    autoencoder, embedders = model.autoencoder, model.conditioner.config.embedders
    flows = isinstance(model.schedule, Flow)
    if embedders and not _enlarges(model):
        return None, f"diffusers has no image of what embeds {', '.join(embedder.field for embedder in embedders)}"
    if unet != UNET.name:
        return None, f"without text, the pipelines of diffusers take a {UNET.name}"
    factor = scaling_factor(autoencoder)
    if factor is None and not isinstance(autoencoder, AutoencoderKL):
        return None, "the pipelines of diffusers have one scaling_factor, not one for each channel of the latents"
    if isinstance(autoencoder, IdentityAutoencoder):
        if factor != 1 or embedders:
            return None, "the pipelines of diffusers for pixels know neither a scale nor conditions"
        return ("DDPMPipeline" if flows else "DDIMPipeline"), None
    if flows:
        return None, "the LDMPipeline of diffusers cannot drive a scheduler of flows"
    if embedders and factor not in (None, 1):
        return None, "the LDMSuperResolutionPipeline of diffusers does not scale latents"
    return ("LDMSuperResolutionPipeline" if embedders else "LDMPipeline"), None


def _enlarges(model: LatentDiffusion) -> bool:
    """Whether the model is conditioned on an image that is as large as its latents, and on nothing else."""
    embedders = model.conditioner.config.embedders
    if len(embedders) != 1 or not isinstance(embedders[0], PassThroughConfig):
        return False
    return embedders[0].slot == "concat" and embedders[0].channels == model.autoencoder.latent_channels


def _groups(module: nn.Module) -> set[int]:
    """Return the numbers of groups in which the layers of a network normalise."""
    return {layer.num_groups for layer in module.modules() if isinstance(layer, nn.GroupNorm)}


def _check_groups(groups: set[int]) -> None:
    if len(groups) > 1:
        stated = ", ".join(map(str, sorted(groups)))
        raise refuse(f"channels that make GroupNorms of {stated} groups", "it has one number of groups for all")
