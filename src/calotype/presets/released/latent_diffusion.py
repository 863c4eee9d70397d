"""The released diffusion models."""

from typing import Any

from calotype.conditioner import (
    BERTEmbedderConfig,
    ClassEmbedderConfig,
    ConditionerConfig,
    EncodedImageConfig,
    LayoutConfig,
    PassThroughConfig,
    SpatialRescalerConfig,
)
from calotype.diffusion.loss import L1Loss, L2Loss, Loss
from calotype.diffusion.objectives import Objective
from calotype.diffusion.schedule import ScaledLinear
from calotype.interop.original import OriginalConfig, OriginalDiffusion
from calotype.models import AutoencoderConfig
from calotype.models.unet import UNetConfig
from calotype.presets.released.first_stages import KL_F8, KL_F16, VQ_F4, VQ_F4_NO_ATTENTION, VQ_F8
from calotype.presets.released.row import PAPER, ReleasedModel


def _latent_diffusion(
    name: str,
    summary: str,
    parameters: int,
    checkpoint: str,
    published: str,
    network: UNetConfig,
    autoencoder: AutoencoderConfig = VQ_F4,
    *,
    embedder: Any = None,
    size: int = 256,
    betas: tuple[float, float] = (0.0015, 0.0195),
    loss: Loss = L2Loss(),  # noqa: B008 (frozen)
    scale_factor: float | None = 1.0,
    ema: bool = True,
    unused: tuple[str, ...] = (),
    learning_rate: float = 2e-6,
) -> ReleasedModel:
    diffusion = OriginalDiffusion(
        network=network,
        conditioner=ConditionerConfig(embedders=() if embedder is None else (embedder,)),
        schedule=ScaledLinear(beta_start=betas[0], beta_end=betas[1]),
        objective=Objective(prediction="eps", loss=loss),
        scale_factor=scale_factor,
        ema=ema,
        unused=unused,
    )
    return ReleasedModel(
        name=name,
        summary=summary,
        original=OriginalConfig(autoencoder=autoencoder, size=size, diffusion=diffusion, learning_rate=learning_rate),
        parameters=parameters,
        checkpoint=checkpoint,
        published=published,
        takes="" if embedder is None else embedder.field,
    )


def _unet(channels: int, multipliers: tuple[int, ...], attention: tuple[int, ...], **options: Any) -> UNetConfig:
    """Return a UNet of the reference: heads are 32 wide unless their number is given."""
    latent = options.pop("latent", 3)
    sizes = {"in_channels": latent, "out_channels": latent, "head_channels": None if "heads" in options else 32}
    return UNetConfig(
        **sizes | options, channels=channels, channel_multipliers=multipliers, attention_factors=attention
    )


_FACES = _unet(224, (1, 2, 3, 4), (8, 4, 2))
_CIN = _unet(256, (1, 2, 4), (4, 2, 1), latent=4, transformer_depth=1, context_channels=512)
_SEMANTIC = _unet(128, (1, 4, 8), (32, 16, 8), in_channels=6, heads=8)
_MAP = SpatialRescalerConfig(in_channels=182, out_channels=3, stages=2, null="none")
_SD = {"latent": 4, "heads": 8, "transformer_depth": 1}
_LDM = "of CompVis/latent-diffusion (LDMs)"


LATENT_DIFFUSION = (
    _latent_diffusion(
        "celeba256",
        "faces, unconditional",
        274_056_163,
        f"celeba.zip {_LDM}",
        f"FID 5.11, precision 0.72, recall 0.49 on CelebA-HQ 256 ({PAPER}, Table 1; 500 DDIM steps, README: 200)",
        _FACES,
    ),
    _latent_diffusion(
        "ffhq256",
        "faces, unconditional",
        274_056_163,
        f"ffhq.zip {_LDM}",
        f"FID 4.98, precision 0.73, recall 0.50 on FFHQ 256 ({PAPER}, Table 1; 200 DDIM steps, eta 1)",
        _FACES,
    ),
    _latent_diffusion(
        "lsun_beds256",
        "bedrooms, unconditional",
        274_056_163,
        f"lsun_bedrooms.zip {_LDM}",
        f"FID 2.95, precision 0.66, recall 0.48 on LSUN Bedrooms 256 ({PAPER}, Table 1; 200 DDIM steps, eta 1)",
        _FACES,
    ),
    _latent_diffusion(
        "lsun_churches256",
        "churches, unconditional",
        294_966_916,
        f"lsun_churches.zip {_LDM}",
        f"FID 4.02, precision 0.64, recall 0.52 on LSUN Churches 256 ({PAPER}, Table 1; sources disagree on the steps)",
        _unet(192, (1, 2, 2, 4, 4), (1, 2, 4, 8), latent=4, heads=8, scale_shift_norm=True, resblock_updown=True),
        KL_F8,
        betas=(0.0015, 0.0155),
        loss=L1Loss(),
        scale_factor=None,
        learning_rate=5e-5,
    ),
    _latent_diffusion(
        "cin256",
        "the 1000 classes of ImageNet, without guidance",
        394_984_196,
        f"cin.zip {_LDM}",
        f"FID 15.51, with a classifier's guidance 7.76, on ImageNet 256 ({PAPER}, Table 18 and README)",
        _CIN,
        VQ_F8,
        embedder=ClassEmbedderConfig(classes=1000, channels=512),
        learning_rate=1e-6,
    ),
    _latent_diffusion(
        "cin256-v2",
        "the 1000 classes of ImageNet, with classifier-free guidance",
        400_920_579,
        "nitro/cin/model.ckpt of CompVis/latent-diffusion",
        f"FID 10.56, IS 103.49; guided (1.5) FID 3.60, IS 247.67 on ImageNet 256 ({PAPER}, Table 3; 250 DDIM steps)",
        _unet(192, (1, 2, 3, 5), (8, 4, 2), heads=1, transformer_depth=1, context_channels=512),
        embedder=ClassEmbedderConfig(classes=1001, channels=512, null_class=1000),
        ema=False,
        learning_rate=1e-4,
    ),
    _latent_diffusion(
        "text2img256",
        "captions (Conceptual Captions)",
        403_623_939,
        f"text2img.zip {_LDM}",
        "FID 16.79, IS 13.89 (README of CompVis/latent-diffusion; 100 DDIM steps, eta 0; Conceptual Captions)",
        _unet(192, (1, 2, 3, 5), (8, 4, 2), transformer_depth=1, context_channels=640),
        embedder=BERTEmbedderConfig(channels=640),
    ),
    _latent_diffusion(
        "txt2img-1p4B",
        "captions (LAION-400M), 1.45 B parameters in all",
        872_300_484,
        "nitro/txt2img-f8-large/model.ckpt of CompVis/latent-diffusion",
        f"guided (scale 1.5) FID 12.63, IS 30.29; unguided 23.31 on MS-COCO 256 ({PAPER}v2, Table 2; 250 DDIM steps)",
        _unet(320, (1, 2, 4, 4), (4, 2, 1), **_SD, context_channels=1280),
        KL_F8,
        embedder=BERTEmbedderConfig(channels=1280),
        betas=(0.00085, 0.012),
        scale_factor=0.18215,
        ema=False,
        learning_rate=5e-5,
    ),
    _latent_diffusion(
        "layout2img-openimages256",
        "boxes with classes (OpenImages)",
        246_277_379,
        f"layout2img_model.zip {_LDM}",
        f"FID 32.02 on OpenImages 256, IS 15.92 ({PAPER}, Table 9, and README; 200 DDIM steps, eta 0)",
        _unet(128, (1, 2, 3, 4), (8, 4, 2), transformer_depth=3, context_channels=512),
        embedder=BERTEmbedderConfig(
            field="layout",
            vocabulary_size=8192,
            length=92,
            channels=512,
            layers=16,
            tokens=LayoutConfig(classes=8191, max_objects=30, tokens=8192, at_border="shift"),
        ),
        betas=(0.0015, 0.0205),
        loss=L1Loss(),
    ),
    _latent_diffusion(
        "bsr_sr",
        "four times the size of a low-resolution image",
        113_622_563,
        f"sr_bsr.zip {_LDM}",
        "none for this model",
        _unet(160, (1, 2, 2, 4), (16, 8), in_channels=6),
        embedder=PassThroughConfig(field="low_resolution", slot="concat", channels=3, null="none"),
        betas=(0.0015, 0.0155),
        learning_rate=1e-6,
    ),
    _latent_diffusion(
        "semantic_synthesis256",
        "landscapes from maps of 182 classes",
        215_229_315,
        f"semantic_synthesis256.zip {_LDM}",
        "none, pictures only",
        _SEMANTIC,
        embedder=_MAP,
        betas=(0.0015, 0.0205),
        loss=L1Loss(),
        learning_rate=1e-6,
    ),
    _latent_diffusion(
        "semantic_synthesis512",
        "landscapes from maps of 182 classes, fine-tuned at 512 px",
        215_229_315,
        f"semantic_synthesis.zip {_LDM}",
        "none, pictures only",
        _SEMANTIC,
        embedder=_MAP,
        size=512,
        betas=(0.0015, 0.0205),
        loss=L1Loss(),
        learning_rate=1e-6,
    ),
    _latent_diffusion(
        "inpainting_big",
        "fills the hole of an image",
        387_245_827,
        f"inpainting_big.zip {_LDM}",
        f"FID 1.50, LPIPS 0.137 on Places 512 with fine-tuning, 2.40 without ({PAPER}, Table 7)",
        _unet(256, (1, 2, 3, 4), (8, 4, 2), in_channels=7, heads=8, resblock_updown=True),
        VQ_F4_NO_ATTENTION,
        embedder=EncodedImageConfig(latents="raw", null="none"),
        betas=(0.0015, 0.0205),
        loss=L1Loss(),
        learning_rate=1e-6,
    ),
    _latent_diffusion(
        "rdm768x768",
        "captions and neighbours as CLIP embeddings (retrieval-augmented diffusion)",
        1_335_480_400,
        "rdm/model.ckpt of CompVis/latent-diffusion",
        "none for this model (arXiv:2204.11824 is its paper)",
        _unet(448, (1, 2, 3, 4), (4, 2, 1), latent=16, transformer_depth=1, context_channels=768),
        KL_F16,
        embedder=PassThroughConfig(field="neighbours", slot="context", channels=768),
        size=768,
        betas=(0.0015, 0.015),
        scale_factor=0.22765929,
        learning_rate=1e-4,
    ),
    _latent_diffusion(
        "stable-diffusion-v1",
        "captions as CLIP embeddings (LAION); the text encoder is not read",
        859_520_964,
        "sd-v1-1.ckpt to sd-v1-4.ckpt of CompVis/stable-diffusion",
        "curves alone (README of CompVis/stable-diffusion)",
        _unet(320, (1, 2, 4, 4), (4, 2, 1), **_SD, context_channels=768),
        KL_F8,
        embedder=PassThroughConfig(field="text_embedding", slot="context", channels=768, null="none"),
        size=512,
        betas=(0.00085, 0.012),
        scale_factor=0.18215,
        ema=False,
        unused=("cond_stage_model.",),
        learning_rate=1e-4,
    ),
)
