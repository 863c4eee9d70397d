"""The original's configurations at a size that a test can fill with numbers: one for each way of conditioning."""

from typing import Any

MODULES = "ldm.modules.encoders.modules"
AUTOENCODER = {"in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": []}
KL_LOSS = {
    "target": "ldm.modules.losses.LPIPSWithDiscriminator",
    "params": {"disc_start": 50001, "kl_weight": 1e-06, "disc_weight": 0.5, "disc_num_layers": 2},
}
VQ_LOSS = {
    "target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
    "params": {"disc_conditional": False, "disc_in_channels": 3, "disc_start": 0, "disc_weight": 0.75},
}
NO_LOSS = {"target": "torch.nn.Identity"}


def kl(loss: Any = NO_LOSS, **changes: Any) -> dict[str, Any]:
    shape = AUTOENCODER | {"double_z": True, "z_channels": 4, "resolution": 32, "dropout": 0.0} | changes
    params = {"embed_dim": 4, "monitor": "val/rec_loss", "ddconfig": shape, "lossconfig": loss}
    return {"target": "ldm.models.autoencoder.AutoencoderKL", "params": params}


def vq(name: str = "VQModelInterface", loss: Any = NO_LOSS) -> dict[str, Any]:
    shape = AUTOENCODER | {"double_z": False, "z_channels": 4, "resolution": 32}
    params = {"embed_dim": 4, "n_embed": 16, "ddconfig": shape, "lossconfig": loss}
    return {"target": f"ldm.models.autoencoder.{name}", "params": params}


def unet(**changes: Any) -> dict[str, Any]:
    params = {
        "image_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "attention_resolutions": [2],
        "num_res_blocks": 1,
        "channel_mult": [1, 2],
        "num_head_channels": 16,
    }
    return {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": params | changes}


def diffusion(first_stage: dict[str, Any], network: dict[str, Any], condition: Any, **changes: Any) -> dict[str, Any]:
    params = {
        "linear_start": 0.0015,
        "linear_end": 0.0195,
        "timesteps": 100,
        "first_stage_key": "image",
        "image_size": 16,
        "channels": 4,
        "monitor": "val/loss_simple_ema",
        "unet_config": network,
        "first_stage_config": first_stage,
        "cond_stage_config": condition,
    }
    target = "ldm.models.diffusion.ddpm.LatentDiffusion"
    return {"base_learning_rate": 1e-6, "target": target, "params": params | changes}


def crossattn(name: str, field: str, /, **params: Any) -> dict[str, Any]:
    network = unet(use_spatial_transformer=True, transformer_depth=1, context_dim=24)
    target = name if "." in name else f"{MODULES}.{name}"
    condition = {"target": target, "params": params} if params else {"target": target}
    return diffusion(vq(), network, condition, cond_stage_key=field, conditioning_key="crossattn")


def concat(condition: Any, key: str, channels: int) -> dict[str, Any]:
    return diffusion(vq(), unet(in_channels=4 + channels), condition, cond_stage_key=key, concat_mode=True)


RESCALER = {"target": f"{MODULES}.SpatialRescaler", "params": {"n_stages": 1, "in_channels": 5, "out_channels": 3}}
LAYOUT = {"n_embed": 24, "n_layer": 1, "vocab_size": 64, "max_seq_len": 8, "use_tokenizer": False}

FIRST_STAGES = {"kl": kl(KL_LOSS), "vq": vq("VQModel", VQ_LOSS), "kl without a loss": kl()}
MODELS = {
    "unconditional": diffusion(vq(), unet(), "__is_unconditional__"),
    "scaled by its deviation": diffusion(
        kl(), unet(use_scale_shift_norm=True), "__is_unconditional__", scale_by_std=True
    ),
    "learned log-variance": diffusion(kl(), unet(resblock_updown=True), "__is_unconditional__", learn_logvar=True),
    "pixels": diffusion({"target": "ldm.models.autoencoder.IdentityFirstStage"}, unet(), "__is_unconditional__"),
    "class": crossattn("ClassEmbedder", "class_label", n_classes=7, embed_dim=24, key="class_label"),
    "caption": crossattn("BERTEmbedder", "caption", n_embed=24, n_layer=2),
    "layout": crossattn("BERTEmbedder", "coordinates_bbox", **LAYOUT),
    "neighbours": crossattn("torch.nn.Identity", "nix"),
    "text": crossattn("FrozenCLIPEmbedder", "txt"),
    "segmentation": concat(RESCALER, "segmentation", 3),
    "low resolution": concat({"target": "torch.nn.Identity"}, "LR_image", 3),
    "masked image": concat("__is_first_stage__", "masked_image", 5),
}
