"""Our configurations as the original's: what ``config.py`` reads."""

from typing import Any

from calotype.conditioner import ConditionerConfig
from calotype.conditioner.embedders.bert import BERTEmbedderConfig
from calotype.conditioner.embedders.class_token import ClassEmbedderConfig
from calotype.conditioner.embedders.encoded_image import EncodedImageConfig
from calotype.conditioner.embedders.pass_through import PassThroughConfig
from calotype.conditioner.embedders.spatial_rescaler import SpatialRescalerConfig
from calotype.diffusion.schedule import Cosine
from calotype.interop.original.conditioning import FIELDS, FIRST_STAGE, UNCONDITIONAL
from calotype.interop.original.config import OriginalConfig, OriginalDiffusion, TableSchedule
from calotype.interop.original.losses import LossConfig
from calotype.losses import LPIPSWithDiscriminatorConfig
from calotype.models import AutoencoderConfig
from calotype.models.autoencoder import AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.models.unet import UNetConfig

KEYS = {"text_embedding": "txt"} | {ours: theirs for theirs, ours in FIELDS.items()}
SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear", "sqrt": "sqrt", "cosine": "cosine"}


def yaml_data(config: OriginalConfig) -> dict[str, Any]:
    """Return what a YAML file of the original says where ``original_config`` reads ``config`` from it."""
    if config.diffusion is None:
        node = _autoencoder(config.autoencoder, config.loss, "VQModel")
    else:
        node = _section("ldm.models.diffusion.ddpm.LatentDiffusion", **_diffusion(config, config.diffusion))
    rate = {} if config.learning_rate is None else {"base_learning_rate": config.learning_rate}
    return {"model": rate | node}


def _section(target: str, /, **params: Any) -> dict[str, Any]:
    return {"target": target, "params": params} if params else {"target": target}


def _diffusion(config: OriginalConfig, diffusion: OriginalDiffusion) -> dict[str, Any]:
    autoencoder, objective = config.autoencoder, diffusion.objective
    if isinstance(autoencoder, IdentityAutoencoderConfig):
        image_size, channels = config.size, autoencoder.image_channels
    else:
        image_size, channels = config.size // autoencoder.factor, autoencoder.latent_channels
    scale = {"scale_by_std": True} if diffusion.scale_factor is None else {"scale_factor": diffusion.scale_factor}
    learned = objective.log_variance
    return {
        **_schedule(diffusion.schedule),
        "parameterization": objective.prediction,
        "loss_type": objective.loss.kind,
        "l_simple_weight": objective.simple_weight,
        "original_elbo_weight": objective.elbo_weight,
        "v_posterior": objective.v_posterior,
        **({"learn_logvar": True, "logvar_init": learned.init} if learned else {}),
        **scale,
        "use_ema": diffusion.ema,
        "image_size": image_size,
        "channels": channels,
        "first_stage_key": "image",
        **_conditioning(diffusion.conditioner),
        "unet_config": _unet(diffusion.network),
        "first_stage_config": _autoencoder(autoencoder, None, "VQModelInterface"),
    }


def _schedule(schedule: TableSchedule) -> dict[str, Any]:
    ends: dict[str, Any]
    if isinstance(schedule, Cosine):
        ends = {"cosine_s": schedule.offset}
    else:
        ends = {"linear_start": schedule.beta_start, "linear_end": schedule.beta_end}
    return {"beta_schedule": SCHEDULES[schedule.kind], "timesteps": schedule.timesteps, **ends}


def _conditioning(config: ConditionerConfig) -> dict[str, Any]:
    if not config.embedders:
        return {"cond_stage_config": UNCONDITIONAL}
    (embedder,) = config.embedders
    target, context = "ldm.modules.encoders.modules.", bool(embedder.context_channels)
    node: Any
    match embedder:
        case EncodedImageConfig():
            node = FIRST_STAGE
        case PassThroughConfig():
            node = _section(
                f"{target}FrozenCLIPEmbedder" if embedder.field == "text_embedding" else "torch.nn.Identity"
            )
        case ClassEmbedderConfig():
            params = {"n_classes": embedder.class_count, "embed_dim": embedder.channels, "key": "class_label"}
            node = _section(f"{target}ClassEmbedder", **params)
        case BERTEmbedderConfig():
            node = _section(f"{target}BERTEmbedder", **_bert(embedder))
        case SpatialRescalerConfig():
            node = _section(f"{target}SpatialRescaler", **_rescaler(embedder))
    trainable = isinstance(embedder, ClassEmbedderConfig | BERTEmbedderConfig | SpatialRescalerConfig)
    return {
        "conditioning_key": "crossattn" if context else "concat",
        "cond_stage_key": KEYS.get(embedder.field, embedder.field),
        "cond_stage_trainable": trainable,
        "cond_stage_config": node,
    }


def _bert(config: BERTEmbedderConfig) -> dict[str, Any]:
    return {
        "n_embed": config.channels,
        "n_layer": config.layers,
        "vocab_size": config.vocabulary_size,
        "max_seq_len": config.length,
        "use_tokenizer": config.tokens.kind == "wordpiece",
        "embedding_dropout": config.embedding_dropout,
    }


def _rescaler(config: SpatialRescalerConfig) -> dict[str, Any]:
    return {
        "n_stages": config.stages,
        "method": config.method,
        "multiplier": config.multiplier,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "bias": config.bias,
    }


def _unet(config: UNetConfig) -> dict[str, Any]:
    transformer = config.transformer_depth > 0
    heads = {"num_head_channels": config.head_channels} if config.head_channels else {"num_heads": config.heads}
    if config.heads_up:
        heads["num_heads_upsample"] = config.heads_up
    context = {"transformer_depth": config.transformer_depth, "context_dim": config.context_channels}
    return _section(
        "ldm.modules.diffusionmodules.openaimodel.UNetModel",
        image_size=32,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        model_channels=config.channels,
        channel_mult=list(config.channel_multipliers),
        num_res_blocks=config.num_res_blocks,
        attention_resolutions=list(config.attention_factors),
        **heads,
        use_spatial_transformer=transformer,
        **(context if transformer else {}),
        **({} if config.num_classes is None else {"num_classes": config.num_classes}),
        dropout=config.dropout,
        use_scale_shift_norm=config.scale_shift_norm,
        resblock_updown=config.resblock_updown,
        conv_resample=config.conv_resample,
        use_new_attention_order=not config.split_heads_first,
    )


def _autoencoder(config: AutoencoderConfig, loss: LossConfig | None, vq_name: str) -> dict[str, Any]:
    if isinstance(config, IdentityAutoencoderConfig):
        return _section("ldm.models.autoencoder.IdentityFirstStage")
    of_kl = isinstance(config, AutoencoderKLConfig)
    shape = {
        "double_z": of_kl,
        "z_channels": config.z_channels or config.latent_channels,
        "resolution": config.resolution,
        "in_channels": config.image_channels,
        "out_ch": config.out_channels or config.image_channels,
        "ch": config.channels,
        "ch_mult": list(config.channel_multipliers),
        "num_res_blocks": config.num_res_blocks,
        "attn_resolutions": list(config.attention_resolutions),
        "attn_type": config.attention,
        "resamp_with_conv": config.conv_resample,
        "dropout": config.dropout,
        "tanh_out": config.tanh_out,
        "give_pre_end": config.give_pre_end,
    }
    params = {"embed_dim": config.latent_channels, "ddconfig": shape, "lossconfig": _loss(loss)}
    if isinstance(config, AutoencoderKLConfig):
        return _section("ldm.models.autoencoder.AutoencoderKL", **params)
    params["n_embed"] = config.quantiser.codes
    if isinstance(config.quantiser, VectorQuantizer2Config) and config.quantiser.index_shape == "image":
        params["sane_index_shape"] = True
    return _section(f"ldm.models.autoencoder.{vq_name}", **params)


def _loss(config: LossConfig | None) -> dict[str, Any]:
    if config is None:
        return _section("torch.nn.Identity")
    discriminator = config.discriminator
    params = {
        "disc_start": config.disc_start,
        "disc_weight": config.disc_weight,
        "disc_factor": config.disc_factor,
        "disc_in_channels": discriminator.in_channels,
        "disc_num_layers": discriminator.num_layers,
        "disc_loss": config.disc_loss,
        "use_actnorm": discriminator.normalisation == "act",
        "perceptual_weight": config.perceptual_weight,
    }
    if isinstance(config, LPIPSWithDiscriminatorConfig):
        own = {"kl_weight": config.kl_weight, "logvar_init": config.logvar_init}
        return _section("ldm.modules.losses.LPIPSWithDiscriminator", **params, **own)
    own = {"codebook_weight": config.codebook_weight}
    return _section("taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator", **params, **own)
