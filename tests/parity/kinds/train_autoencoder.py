"""Training an autoencoder in the reference's order: a forward pass for each of the two optimisers of a step."""

from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.losses import LPIPSWithDiscriminator
from calotype.models.distributions import DiagonalGaussianDistribution
from kinds import kind
from kinds.lpips_with_discriminator import (
    Loss,
    Values,
    build,
    code_usage,
    discriminator_step,
    generator_step,
    kl_loss,
    kl_terms,
    vq_loss,
    vq_terms,
)
from kinds.networks import autoencoder_config

STEPS = 3


@kind("train_autoencoder_steps")
def train_autoencoder_steps(golden: Golden) -> dict[str, Tensor]:
    config, images = golden.config, golden.inputs["x"]
    quantised = "n_embed" in config
    model = autoencoder_config(config).build().train()
    model.load_state_dict({name: value for name, value in golden.state.items() if not name.startswith("loss.")})
    loss = build((vq_loss if quantised else kl_loss)(config["loss"]), under("loss.", golden.state)).train()
    optimisers = [
        torch.optim.Adam(part.parameters(), lr=rate, betas=(0.5, 0.9))
        for part, rate in ((model, config["lr"] * config.get("lr_g_factor", 1.0)), (loss.discriminator, config["lr"]))
    ]
    found: Values = {}
    for step in range(STEPS):
        for number, optimiser in enumerate(optimisers):
            noise = golden.inputs["noise"][2 * step + number] if "noise" in golden.inputs else None
            reconstructions, latents = model(images, noise)
            if number == 0:
                terms = latent_terms(loss, latents, images, config["loss"])
                total, logs = generator_step(loss, images, reconstructions, model.last_layer, step, terms)
            else:
                total, logs = discriminator_step(loss, images, reconstructions, step)
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            case = f"step{step}_opt{number}"
            found |= {f"{case}.loss": total} | {
                f"{case}.log.train/{name}": value.detach() for name, value in logs.items()
            }
        parameters = dict(model.named_parameters()) | {f"loss.{name}": p for name, p in loss.named_parameters()}
        norms = [parameters[name].detach().norm() for name in config["param_names"]]
        found[f"param_norms_{step}"] = torch.stack(norms)
    state = model.state_dict() | {f"loss.{name}": value for name, value in loss.state_dict().items()}
    found |= {f"after.{name}": value for name, value in state.items()}
    return found | {f"after.{name}": value for name, value in loss.state_dict().items()}


def latent_terms(loss: Loss, latents: Any, images: Tensor, config: dict[str, Any]) -> Values:
    """What the loss says about the second thing that a model's forward pass returns."""
    if isinstance(loss, LPIPSWithDiscriminator):
        return kl_terms(loss, DiagonalGaussianDistribution(latents), images)
    return vq_terms(loss, latents.loss) | code_usage(latents.indices if "n_classes" in config else None, config)


def under(prefix: str, state: Values) -> Values:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
