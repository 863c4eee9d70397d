"""The losses of the original's first stages as our configurations."""

from typing import Any

from calotype.interop.original.parameters import MOST_REPEATS, section
from calotype.losses import LPIPSWithDiscriminatorConfig, NLayerDiscriminatorConfig, VGG16PerceptualConfig
from calotype.losses.vq_lpips_with_discriminator import VQLPIPSWithDiscriminatorConfig
from calotype.utils.errors import UserError

LossConfig = LPIPSWithDiscriminatorConfig | VQLPIPSWithDiscriminatorConfig

_KL = ("ldm.modules.losses.LPIPSWithDiscriminator", "ldm.modules.losses.contperceptual.LPIPSWithDiscriminator")
_VQ = (
    "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
)
_NONE = (
    "torch.nn.Identity",
    "ldm.modules.losses.contperceptual.DummyLoss",
    "taming.modules.losses.vqperceptual.DummyLoss",
)


def loss_config(node: Any) -> LossConfig | None:
    """Return our configuration of a ``lossconfig``, None for those that stand for no loss.

    ``disc_start`` counts the original's steps.

    Raises:
        UserError: the target or a parameter is unknown.
    """
    target, params = section("lossconfig", node)
    if target in _NONE:
        params.finish()
        return None
    if target not in _KL + _VQ:
        raise UserError(f"lossconfig: the target {target[:80]!r} is not among those that are read")
    params.ignore("pixelloss_weight", "disc_conditional")
    discriminator = params.make_part(
        NLayerDiscriminatorConfig,
        in_channels=params.integer("disc_in_channels", 3),
        channels=params.integer("disc_ndf", 64) if target in _VQ else 64,
        num_layers=params.integer("disc_num_layers", 3, most=MOST_REPEATS),
        normalisation="act" if params.flag("use_actnorm", False) else "batch",
    )
    shared = {
        "discriminator": discriminator,
        "perceptual": VGG16PerceptualConfig(),
        "perceptual_weight": params.number("perceptual_weight", 1.0),
        "disc_weight": params.number("disc_weight", 1.0),
        "disc_factor": params.number("disc_factor", 1.0),
        "d_weight_cap": 1e4,
        "disc_start": params.integer("disc_start"),
        "disc_loss": params.choice("disc_loss", {"hinge": "hinge", "vanilla": "vanilla"}, "hinge"),
    }
    if target in _KL:
        kl_weight, logvar_init = params.number("kl_weight", 1.0), params.number("logvar_init", 0.0)
        return params.make(
            LPIPSWithDiscriminatorConfig, **shared, kl_weight=kl_weight, logvar_init=logvar_init, reduction="sum"
        )
    params.only(perceptual_loss="lpips")
    params.ignore("n_classes")
    pixels = params.choice("pixel_loss", {"l1": "l1", "l2": "l2"}, "l1")
    codebook_weight = params.number("codebook_weight", 1.0)
    return params.make(VQLPIPSWithDiscriminatorConfig, **shared, codebook_weight=codebook_weight, reconstruction=pixels)
