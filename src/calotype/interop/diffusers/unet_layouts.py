"""Every key in the configurations of UNet2DModel and UNet2DConditionModel."""

from typing import Any

from calotype.interop.diffusers.layout import Layout

SHARED: dict[str, Any] = {
    "sample_size": None,
    "layers_per_block": 2,
    "dropout": 0.0,
    "norm_num_groups": 32,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
    "attention_head_dim": 8,
}
FIXED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "freq_shift": (0,),
    "flip_sin_to_cos": (True,),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (1,),
    "act_fn": ("silu", "swish"),
    "norm_eps": (1e-5,),
}

UNET = Layout(
    name="UNet2DModel",
    mapped=SHARED
    | {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": [224, 448, 672, 896],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "downsample_type": "conv",
        "upsample_type": "conv",
        "mid_block_type": "UNetMidBlock2D",
        "attn_norm_num_groups": None,
    },
    fixed=FIXED | {"add_attention": (True,), "class_embed_type": (None,)},
    inert=frozenset({"num_train_timesteps"}),
)

UNET_CONDITION = Layout(
    name="UNet2DConditionModel",
    mapped=SHARED
    | {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": 1280,
        "transformer_layers_per_block": 1,
        "class_embed_type": None,
        "projection_class_embeddings_input_dim": None,
    },
    fixed=FIXED
    | {
        "only_cross_attention": (False,),
        "mid_block_only_cross_attention": (None, False),
        "reverse_transformer_layers_per_block": (None,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "num_attention_heads": (None,),
        "dual_cross_attention": (False,),
        "addition_embed_type": (None,),
        "resnet_skip_time_act": (False,),
        "resnet_out_scale_factor": (1,),
        "time_embedding_act_fn": (None,),
        "timestep_post_act": (None,),
        "time_cond_proj_dim": (None,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "attention_type": ("default",),
        "class_embeddings_concat": (False,),
        "cross_attention_norm": (None,),
    },
    inert=frozenset(
        {"use_linear_projection", "upcast_attention", "addition_time_embed_dim", "addition_embed_type_num_heads"}
    ),
)
