import re

import torch
import torch.nn.functional as F
from golden_file import Golden
from torch import Tensor, nn

from calotype.losses import (
    LPIPSWithDiscriminator,
    LPIPSWithDiscriminatorConfig,
    NLayerDiscriminatorConfig,
    NoPerceptualConfig,
)
from calotype.models.distributions import DiagonalGaussianDistribution
from kinds import kind


class TanhDistance(nn.Module):
    """What the golden files put in the place of the perceptual network."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (torch.tanh(x) - torch.tanh(y)).square().mean(dim=(1, 2, 3), keepdim=True)


@kind("loss_kl_lpips_disc")
def loss_kl_lpips_disc(golden: Golden) -> dict[str, Tensor]:
    cases = sorted({name.split(".")[0] for name in golden.outputs})
    found: dict[str, Tensor] = {}
    for case in cases:
        mode, step, optimizer = re.fullmatch(r"(train|eval)_step(\d+)_opt([01])", case).groups()
        loss = build_loss(golden.config)
        loss.load_state_dict(golden.state)
        loss.train(mode == "train")
        run = discriminator_case if optimizer == "1" else generator_case
        values = run(golden, loss, int(step), mode)
        if mode == "train":
            values |= {f"after.{name}": tensor for name, tensor in loss.state_dict().items()}
        found |= {f"{case}.{name}": value for name, value in values.items()}
    return found


def build_loss(config: dict) -> LPIPSWithDiscriminator:
    """Make our loss with the constructor arguments of the reference's."""
    loss = LPIPSWithDiscriminatorConfig(
        discriminator=NLayerDiscriminatorConfig(
            in_channels=config.get("disc_in_channels", 3),
            num_layers=config.get("disc_num_layers", 3),
            normalisation="act" if config.get("use_actnorm") else "batch",
        ),
        perceptual=NoPerceptualConfig(),
        perceptual_weight=config.get("perceptual_weight", 1.0),
        kl_weight=config.get("kl_weight", 1.0),
        disc_weight=config.get("disc_weight", 1.0),
        disc_factor=config.get("disc_factor", 1.0),
        disc_start=config["disc_start"],
        disc_loss=config.get("disc_loss", "hinge"),
        logvar_init=config.get("logvar_init", 0.0),
        reduction="sum",
    ).build()
    loss.perceptual_loss = TanhDistance()
    return loss


def generator_case(golden: Golden, loss: LPIPSWithDiscriminator, step: int, mode: str) -> dict[str, Tensor]:
    """The autoencoder's side: the logs from the pieces, the gradients from our single backward pass as well."""
    last_layer, reconstructions = reconstruct(golden)
    inputs, condition, weights = golden.inputs["inputs"], golden.inputs.get("cond"), golden.inputs.get("weights")
    rec_loss = loss.reconstruction_loss(inputs, reconstructions)
    weighted_nll, nll = loss.nll_loss(rec_loss, weights)
    kl = loss.kl_loss(DiagonalGaussianDistribution(golden.inputs["moments"]), inputs[0].numel())
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    g_loss = loss.generator_loss(reconstructions, condition)
    nll_grad, g_grad = (torch.autograd.grad(part, last_layer, retain_graph=True)[0] for part in (nll, g_loss))
    d_weight, disc_factor = loss.adaptive_weight(nll_grad, g_grad), loss.disc_factor_at(step)
    total = weighted_nll + loss.config.kl_weight * kl + d_weight * disc_factor * g_loss
    grad_last_layer, grad_logvar = torch.autograd.grad(total, [last_layer, loss.logvar], retain_graph=True)
    if weights is None:
        after = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
        loss.load_state_dict(before)
        terms = loss.generator_step_gradients(inputs, reconstructions, last_layer, step, condition=condition)
        (grad_last_layer,) = torch.autograd.grad(reconstructions, last_layer, terms.gradient)
        grad_logvar = terms.logvar_gradient
        loss.load_state_dict(after)
    return {
        "loss": total,
        f"log.{mode}/total_loss": total,
        f"log.{mode}/logvar": loss.logvar,
        f"log.{mode}/kl_loss": kl,
        f"log.{mode}/nll_loss": nll,
        f"log.{mode}/rec_loss": rec_loss.mean(),
        f"log.{mode}/d_weight": d_weight,
        f"log.{mode}/disc_factor": torch.tensor(disc_factor),
        f"log.{mode}/g_loss": g_loss,
        "grad_last_layer": grad_last_layer,
        "grad_logvar": grad_logvar,
    }


def discriminator_case(golden: Golden, loss: LPIPSWithDiscriminator, step: int, mode: str) -> dict[str, Tensor]:
    """The discriminator's side."""
    _, reconstructions = reconstruct(golden)
    d_loss, logs = loss.discriminator_loss(golden.inputs["inputs"], reconstructions, golden.inputs.get("cond"))
    total = loss.disc_factor_at(step) * d_loss
    (grad,) = torch.autograd.grad(total, loss.discriminator.main[0].weight)
    return {
        "loss": total,
        f"log.{mode}/disc_loss": total,
        f"log.{mode}/logits_real": logs["logits_real"],
        f"log.{mode}/logits_fake": logs["logits_fake"],
        "grad_disc_first_conv": grad,
    }


def reconstruct(golden: Golden) -> tuple[Tensor, Tensor]:
    """Return the stand-in for the decoder's last layer and what it makes of the stored features."""
    last_layer = golden.inputs["last_layer"].clone().requires_grad_()
    return last_layer, F.conv2d(golden.inputs["features"], last_layer, golden.inputs["bias"], padding=1)
