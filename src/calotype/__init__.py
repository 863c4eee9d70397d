"""calotype: train and run latent diffusion models on your own images.

Everything public is reachable from here and imported when it is first used (PEP 562)::

    import calotype as ct

    model = ct.load("runs/mine")
    images = model.sample(caption=["an oak in fog"], seeds=[0], guidance=ct.CFG(3.0))
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "artifact": ("read_artifact",),
    "conditioner": (
        "BERTEmbedderConfig",
        "BPEConfig",
        "Box",
        "BoxesConfig",
        "ClassEmbedderConfig",
        "Conditioner",
        "ConditionerConfig",
        "EncodedImageConfig",
        "FrozenTextEmbedderConfig",
        "ImageEmbeddingConfig",
        "LabelEmbedderConfig",
        "LayoutConfig",
        "LayoutObject",
        "NeighboursConfig",
        "PassThroughConfig",
        "ProjectionConfig",
        "SpatialRescalerConfig",
        "TextEmbedderConfig",
        "TokenIdsConfig",
        "WordPieceConfig",
        "train_bpe",
    ),
    "data": (
        "Batch",
        "ImageFolder",
        "ImageSet",
        "Loader",
        "PixelFormat",
        "Record",
        "Transform",
        "emoji",
        "scan_folder",
    ),
    "diffusion": (
        "Autoguidance",
        "CFG",
        "DDIM",
        "DDPM",
        "EDM",
        "Betas",
        "Conditioning",
        "Cosine",
        "DPMSolver",
        "Denoise",
        "Denoiser",
        "EDMStochastic",
        "EDMWeighting",
        "ELBOWeighting",
        "Estimate",
        "Euler",
        "Flow",
        "FourierLogVarianceConfig",
        "Grid",
        "Heun",
        "HuberLoss",
        "ImportanceSampler",
        "ImportanceTimes",
        "L1Loss",
        "L2Loss",
        "Linear",
        "LogNormalTimes",
        "LogVarianceConfig",
        "LogitNormalTimes",
        "LossTerms",
        "MinSNRWeighting",
        "NoiseSchedule",
        "NoiseSource",
        "Objective",
        "P2Weighting",
        "PLMS",
        "Prediction",
        "ScaledLinear",
        "SimpleWeighting",
        "Solver",
        "Sqrt",
        "State",
        "UniPC",
        "ZeroTerminalSNR",
        "UniformTimes",
        "bound_weights",
        "composite",
        "dynamic_threshold",
        "error_weights",
        "known_region",
        "map_x0",
        "q_sample",
        "solve",
        "solve_adaptively",
    ),
    "diffusion.likelihood": (
        "DiscretisedLaplace",
        "DiscretisedNormal",
        "Hutchinson",
        "VariationalBound",
        "bits_per_dim",
        "exact_divergence",
        "log_likelihood",
        "variational_bound",
    ),
    "encoders": ("ImageEncoderConfig", "TextEncoderConfig", "describe_image_encoder", "describe_text_encoder"),
    "interop.diffusers": ("export_diffusers", "load_diffusers"),
    "interop.original": ("OriginalConfig", "load_original", "original_config", "original_keys", "save_original"),
    "losses": (
        "LPIPSWithDiscriminator",
        "LPIPSWithDiscriminatorConfig",
        "NLayerDiscriminatorConfig",
        "NoPerceptualConfig",
        "ProjectedPerceptualConfig",
        "SqueezeNetPerceptualConfig",
        "VGG16PerceptualConfig",
        "VQLPIPSWithDiscriminator",
        "VQLPIPSWithDiscriminatorConfig",
    ),
    "models.autoencoder": ("AutoencoderKL", "AutoencoderKLConfig", "IdentityAutoencoder", "IdentityAutoencoderConfig"),
    "models.dit": ("DiT", "DiTConfig"),
    "models.distributions": ("DiagonalGaussianDistribution", "DiracDistribution"),
    "models.latent_rgb": ("LatentToRGB",),
    "models.quantisers": (
        "FSQ",
        "FSQConfig",
        "GumbelQuantize",
        "GumbelQuantizeConfig",
        "VectorQuantizer2",
        "VectorQuantizer2Config",
    ),
    "models.tiny_decoder": ("TinyDecoder", "TinyDecoderConfig"),
    "models.unet": ("UNet", "UNetConfig"),
    "models.vq_model": ("VQModel", "VQModelConfig"),
    "pipeline": ("LatentDiffusion", "TrainedAutoencoder", "load"),
    "tasks.img2img": ("img2img",),
    "tasks.interpolate": ("interpolate", "slerp"),
    "tasks.invert": ("backwards", "invert"),
    "tasks.preview": ("preview", "tiny_decoder_for"),
    "tasks.tile": ("TiledDenoiser", "TiledLatentDiffusion", "Tiling"),
    "training.autoencoder_recipe": ("AutoencoderRecipe", "AutoencoderRecipeConfig"),
    "training.codebook": ("CodeAverageConfig", "CodebookConfig"),
    "training.diffusion_recipe": ("DiffusionRecipe", "DiffusionRecipeConfig"),
    "training.ema": ("ConstantEMA", "MovingAverage", "PowerFunctionEMA", "WarmUpEMA", "gamma_of"),
    "training.ema_snapshots": ("post_hoc_average", "solve_weights", "write_post_hoc_average"),
    "training.learning_rate": ("CosineCycles", "Cycle", "LinearCycles"),
    "training.optimiser": ("OptimiserConfig",),
    "training.regularisers": ("DecoderNoiseConfig", "EquivarianceConfig"),
    "training.tiny_decoder_recipe": ("TinyDecoderRecipe", "TinyDecoderRecipeConfig"),
    "training.trainer": ("Trainer", "TrainerConfig"),
    "utils.errors": ("UserError",),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"calotype.{_HOME[name]}"), name)
    raise AttributeError(f"module 'calotype' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
