"""The losses of an autoencoder, piece by piece in the reference's order, and the gradients that a step takes."""

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from golden_file import Golden
from torch import Tensor, nn

from calotype.losses import (
    AutoencoderLossConfig,
    LPIPSWithDiscriminator,
    LPIPSWithDiscriminatorConfig,
    NLayerDiscriminatorConfig,
    NoPerceptualConfig,
    VQLPIPSWithDiscriminator,
    VQLPIPSWithDiscriminatorConfig,
    measure_perplexity,
)
from calotype.models.distributions import DiagonalGaussianDistribution
from kinds import kind

Loss = LPIPSWithDiscriminator | VQLPIPSWithDiscriminator
Values = dict[str, Tensor]


class TanhDistance(nn.Module):
    """What the golden files put in the place of the perceptual network."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (torch.tanh(x) - torch.tanh(y)).square().mean(dim=(1, 2, 3), keepdim=True)


@kind("loss_kl_lpips_disc")
def loss_kl_lpips_disc(golden: Golden) -> Values:
    posterior = DiagonalGaussianDistribution(golden.inputs["moments"])
    return every_case(golden, kl_loss(golden.config), lambda loss, images: kl_terms(loss, posterior, images))


@kind("loss_vq_lpips_disc")
@kind("loss_vq_taming")
def loss_vq(golden: Golden) -> Values:
    codebook_loss = golden.inputs.get("codebook_loss", torch.zeros(()))
    usage = code_usage(golden.inputs.get("predicted_indices"), golden.config)
    return every_case(golden, vq_loss(golden.config), lambda loss, _: vq_terms(loss, codebook_loss) | usage)


def kl_loss(config: dict[str, Any]) -> AutoencoderLossConfig:
    """Our configuration for the constructor arguments of the reference's LPIPSWithDiscriminator."""
    return LPIPSWithDiscriminatorConfig(
        **shared_options(config),
        kl_weight=float(config.get("kl_weight", 1)),
        logvar_init=float(config.get("logvar_init", 0)),
        reduction="sum",
    )


def vq_loss(config: dict[str, Any]) -> AutoencoderLossConfig:
    """Our configuration for the constructor arguments of either of the reference's VQLPIPSWithDiscriminator."""
    return VQLPIPSWithDiscriminatorConfig(
        **shared_options(config),
        codebook_weight=float(config.get("codebook_weight", 1)),
        reconstruction=config.get("pixel_loss", "l1"),
    )


def shared_options(config: dict[str, Any]) -> dict[str, Any]:
    discriminator = NLayerDiscriminatorConfig(
        in_channels=config.get("disc_in_channels", 3),
        channels=config.get("disc_ndf", 64),
        num_layers=config.get("disc_num_layers", 3),
        normalisation="act" if config.get("use_actnorm") else "batch",
    )
    weights = {name: float(config.get(name, 1)) for name in ("perceptual_weight", "disc_weight", "disc_factor")}
    return {
        "discriminator": discriminator,
        "perceptual": NoPerceptualConfig(),
        "disc_start": config["disc_start"],
        "d_weight_cap": 1e4,
        "disc_loss": config.get("disc_loss", "hinge"),
        **weights,
    }


def build(config: AutoencoderLossConfig, state: Values) -> Loss:
    loss = config.build()
    loss.load_state_dict(state)
    loss.perceptual_loss = TanhDistance()
    return loss


def every_case(golden: Golden, config: AutoencoderLossConfig, latent_terms: Callable[[Loss, Tensor], Values]) -> Values:
    """Run the cases MODE_stepN_optK of a file, each from the stored state."""
    found: Values = {}
    for case in sorted({name.split(".")[0] for name in golden.outputs}):
        mode, step, optimizer = re.fullmatch(r"(train|eval)_step(\d+)_opt([01])", case).groups()
        loss = build(config, golden.state).train(mode == "train")
        if optimizer == "0":
            values = generator_case(golden, loss, int(step), mode, latent_terms)
        else:
            values = discriminator_case(golden, loss, int(step), mode)
        if mode == "train":
            values |= {f"after.{name}": tensor for name, tensor in loss.state_dict().items()}
        found |= {f"{case}.{name}": value for name, value in values.items()}
    return found


def generator_case(
    golden: Golden, loss: Loss, step: int, mode: str, latent_terms: Callable[[Loss, Tensor], Values]
) -> Values:
    """The autoencoder's side: the numbers from the pieces, the gradient from our single backward pass as well."""
    last_layer, reconstructions = reconstruct(golden)
    inputs, condition, weights = golden.inputs["inputs"], golden.inputs.get("cond"), golden.inputs.get("weights")
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    total, logs = generator_step(
        loss,
        inputs,
        reconstructions,
        last_layer,
        step,
        latent_terms(loss, inputs),
        condition=condition,
        weights=weights,
    )
    values = {"loss": total, **{f"log.{mode}/{name}": value for name, value in logs.items()}}
    wanted = [last_layer, *(parameter for name, parameter in loss.named_parameters() if name == "logvar")]
    gradients = torch.autograd.grad(total, wanted, retain_graph=True)
    values |= dict(zip(("grad_last_layer", "grad_logvar"), gradients, strict=False))
    if weights is None:
        after = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
        loss.load_state_dict(before)
        terms = loss.generator_step_gradients(inputs, reconstructions, last_layer, step, condition=condition)
        (values["grad_last_layer"],) = torch.autograd.grad(reconstructions, last_layer, terms.gradient)
        loss.load_state_dict(after)
    return values


def generator_step(
    loss: Loss,
    inputs: Tensor,
    reconstructions: Tensor,
    last_layer: Tensor,
    step: int,
    latent_terms: Values,
    *,
    condition: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Values]:
    """Return the autoencoder's loss and the reference's logs; ``latent_terms`` are those of ``kl_terms`` or others."""
    rec_loss = loss.reconstruction_loss(inputs, reconstructions)
    nll = loss.nll_loss(rec_loss)
    weighted_nll = nll if weights is None else loss.nll_loss(rec_loss, weights)
    g_loss = loss.generator_loss(reconstructions, condition)
    nll_grad, g_grad = (torch.autograd.grad(part, last_layer, retain_graph=True)[0] for part in (nll, g_loss))
    d_weight, disc_factor = loss.adaptive_weight(nll_grad, g_grad), loss.disc_factor_at(step)
    if isinstance(loss, LPIPSWithDiscriminator) and not loss.config.disc_factor:
        d_weight = torch.zeros(())  # here one of the reference's losses says 0 and the other what it would have been
    logs = dict(latent_terms)
    total = weighted_nll + d_weight * disc_factor * g_loss + logs.pop("weighted")
    return total, {
        **logs,
        "total_loss": total,
        "nll_loss": nll,
        "rec_loss": rec_loss.mean(),
        "p_loss": loss.perceptual_distance(inputs, reconstructions).mean(),
        "d_weight": d_weight,
        "disc_factor": torch.tensor(disc_factor),
        "g_loss": g_loss,
    }


def kl_terms(loss: LPIPSWithDiscriminator, posterior: DiagonalGaussianDistribution, images: Tensor) -> Values:
    """What the loss says about a posterior: ``weighted``, and what the reference logs."""
    kl = loss.kl_loss(posterior, images[0].numel())
    return {"weighted": loss.config.kl_weight * kl, "kl_loss": kl, "logvar": loss.logvar}


def vq_terms(loss: VQLPIPSWithDiscriminator, codebook_loss: Tensor) -> Values:
    """What the loss says about codes: ``weighted``, and what the reference logs."""
    return {"weighted": loss.config.codebook_weight * codebook_loss.mean(), "quant_loss": codebook_loss.mean()}


def code_usage(indices: Tensor | None, config: dict[str, Any]) -> Values:
    """What the reference logs where it is told the codes."""
    if indices is None:
        return {}
    perplexity, used = measure_perplexity(indices, config["n_classes"])
    return {"perplexity": perplexity, "cluster_usage": used}


def discriminator_case(golden: Golden, loss: Loss, step: int, mode: str) -> Values:
    """The discriminator's side."""
    _, reconstructions = reconstruct(golden)
    total, logs = discriminator_step(
        loss, golden.inputs["inputs"], reconstructions, step, condition=golden.inputs.get("cond")
    )
    (grad,) = torch.autograd.grad(total, loss.discriminator.main[0].weight)
    values = {f"log.{mode}/{name}": value for name, value in logs.items()}
    return {"loss": total, **values, "grad_disc_first_conv": grad}


def discriminator_step(
    loss: Loss, inputs: Tensor, reconstructions: Tensor, step: int, *, condition: Tensor | None = None
) -> tuple[Tensor, Values]:
    """Return the discriminator's loss and the reference's logs."""
    d_loss, logits = loss.discriminator_loss(inputs, reconstructions, condition)
    total = loss.disc_factor_at(step) * d_loss
    return total, {"disc_loss": total, **logits}


def reconstruct(golden: Golden) -> tuple[Tensor, Tensor]:
    """Return the stand-in for the decoder's last layer and what it makes of the stored features."""
    last_layer = golden.inputs["last_layer"].clone().requires_grad_()
    return last_layer, F.conv2d(golden.inputs["features"], last_layer, golden.inputs["bias"], padding=1)
