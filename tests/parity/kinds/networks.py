from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.interop.original.networks import autoencoder_kl_config, unet_config, vq_model_config
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.vq_model import VQModelConfig
from kinds import kind


@kind("unet_full")
def unet_full(golden: Golden) -> dict[str, Tensor]:
    inputs = golden.inputs
    network = unet_config(golden.config).build().eval()
    network.load_state_dict(golden.state)
    return {
        "y": network(inputs["x"], inputs["timesteps"].float(), context=inputs.get("context"), label=inputs.get("y"))
    }


@kind("diffusionwrapper")
def diffusion_wrapper(golden: Golden) -> dict[str, Tensor]:
    """Conditions arrive as lists: images are joined over channels, tokens over their number; `adm` is a label."""
    inputs = golden.inputs
    network = unet_config(golden.config["unet"]).build().eval()
    network.load_state_dict({name.removeprefix("diffusion_model."): value for name, value in golden.state.items()})
    images, tokens = (
        [inputs[name] for name in sorted(inputs) if name.startswith(prefix)] for prefix in ("c_concat", "c_crossattn")
    )
    slots = {"concat": torch.cat(images, dim=1)} if images else {}
    if golden.config["conditioning_key"] == "adm":
        slots["label"] = tokens[0]
    elif tokens:
        slots["context"] = torch.cat(tokens, dim=1)
    return {"y": network(inputs["x"], inputs["timesteps"].float(), **slots)}


@kind("autoencoderkl")
def autoencoder_kl(golden: Golden) -> dict[str, Tensor]:
    model = autoencoder_config(golden.config).build().eval()
    model.load_state_dict(golden.state)
    x, noise = golden.inputs["x"], golden.inputs["noise"]
    posterior = model.encode(x)
    return {
        "h": model.encoder(x),
        "moments": posterior.parameters,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "z": posterior.sample(noise),
        "reconstruction": model(x, noise)[0],
        "reconstruction_mode": model(x)[0],
        "decoded": model.decode(golden.inputs["z"]),
        "kl": posterior.kl(),
    }


def autoencoder_config(config: dict[str, Any]) -> AutoencoderKLConfig | VQModelConfig:
    """Our configuration for constructor arguments of the reference's first stages, which files mix with others."""
    arguments = {
        name: config[name] for name in ("ddconfig", "embed_dim", "n_embed", "sane_index_shape") if name in config
    }
    return vq_model_config(arguments) if "n_embed" in arguments else autoencoder_kl_config(arguments)
