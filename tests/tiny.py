"""Everything that training needs, so small that a run takes a second: 16-pixel pictures, networks 32 channels wide."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calotype.artifact import Artifact, read_artifact, write_artifact
from calotype.conditioner import ConditionerConfig, FieldConfig, TextEmbedderConfig
from calotype.data.image_set import ImageSet, Record
from calotype.data.latents import LatentLoader
from calotype.data.loader import Loader
from calotype.data.pixel_format import PixelFormat
from calotype.data.transforms import Transform
from calotype.diffusion.log_variance import LogVarianceConfig
from calotype.diffusion.objectives import Objective
from calotype.diffusion.schedule import Flow, ScaledLinear
from calotype.diffusion.times import ImportanceTimes
from calotype.losses import (
    LPIPSWithDiscriminatorConfig,
    NLayerDiscriminatorConfig,
    NoPerceptualConfig,
    VQLPIPSWithDiscriminatorConfig,
)
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.models.tiny_decoder import TinyDecoderConfig
from calotype.models.unet import UNetConfig
from calotype.models.vq_model import VQModelConfig
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.codebook import CodeAverageConfig, CodebookConfig
from calotype.training.diffusion_recipe import DiffusionRecipe, DiffusionRecipeConfig
from calotype.training.encode import encode_latents, latent_statistics
from calotype.training.logs import read_metrics
from calotype.training.optimiser import OptimiserConfig
from calotype.training.regularisers import DecoderNoiseConfig, EquivarianceConfig
from calotype.training.session import start_session
from calotype.training.tiny_decoder_recipe import TinyDecoderRecipe, TinyDecoderRecipeConfig
from calotype.training.trainer import TrainerConfig
from calotype.utils.config import to_dict
from calotype.utils.files import digest

SIZE, BATCH = 16, 4
COLOURS = ("red", "green", "blue")
SHAPE: dict[str, Any] = {
    "channels": 32,
    "channel_multipliers": (1, 1),
    "num_res_blocks": 1,
    "latent_channels": 4,
    "resolution": SIZE,
    "attention": "none",
}
AUTOENCODER = AutoencoderKLConfig(**SHAPE)
QUANTISED = VQModelConfig(**SHAPE, quantiser=VectorQuantizer2Config(codes=16))
DISCRIMINATOR = NLayerDiscriminatorConfig(channels=8, num_layers=2)
TEXT = TextEmbedderConfig(
    vocabulary=(*COLOURS, "a", "wave", "round"),
    length=6,
    channels=32,
    layers=1,
    heads=2,
    dropout=0.2,
    keyword_field="keywords",
)
NETWORK = UNetConfig(
    in_channels=4,
    out_channels=4,
    channels=32,
    channel_multipliers=(1, 1),
    num_res_blocks=1,
    attention_factors=(2,),
    transformer_depth=1,
    context_channels=32,
    vector_channels=32,
    dropout=0.1,
)
STEADY = OptimiserConfig(learning_rate=2e-3, warmup_samples=8)
AVERAGED = CodebookConfig(average=CodeAverageConfig(decay=0.9), restart_every=2 * BATCH)
LEARNED = {
    "schedule": ScaledLinear(timesteps=50),
    "objective": Objective(
        elbo_weight=0.1, log_variance=LogVarianceConfig(init=0.2), times=ImportanceTimes(bins=5, history=1)
    ),
}


class Pictures(ImageSet):
    """Smooth waves of one colour each, with captions that name it."""

    source = "pictures"
    pixel_format = PixelFormat()

    def __init__(self, count: int, first: int = 0) -> None:
        self.first = first
        self.records = tuple(
            Record(str(i), {"caption": f"a {COLOURS[i % 3]} wave", "keywords": ["round"]})
            for i in range(first, first + count)
        )

    def pixels(self, index: int) -> np.ndarray:
        number = self.first + index
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE
        wave = np.sin(2 * np.pi * (x * (1 + number % 2) + y * (number % 5) / 4 + number / 7))
        picture = np.full((SIZE, SIZE, 3), 40.0)
        picture[:, :, number % 3] = 128 + 100 * wave
        return picture.astype(np.uint8)

    @cached_property
    def fingerprint(self) -> str:
        return digest(f"{self.first} {len(self)}")


class Wrapped:
    """A source with something done to its batches."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Any:
        return self.source.batch(start, count, rows)

    def prefetch(self, start: int, count: int, rows: slice = slice(None)) -> None:
        self.source.prefetch(start, count, rows)


def loader(count: int = 12, *, first: int = 0, flip: bool = False) -> Loader:
    return Loader(Pictures(count, first), Transform(size=SIZE, flip=flip))


def settings(out: Path, **changes: Any) -> TrainerConfig:
    few = {"samples": 40, "log_every": 12, "validate_every": 16, "checkpoint_every": 12, "preview_every": 10**6}
    fixed = {"out": str(out), "batch_size": BATCH, "device": "cpu", "precision": "fp32"}
    chosen = fixed | few | changes
    if "minutes" in changes:
        del chosen["samples"]
    return TrainerConfig(**chosen)


def autoencoder_recipe(
    *, weights: int = 0, disc_from: float = 0.3, count: int = 12, normalisation: str = "group", **loss: Any
) -> AutoencoderRecipe:
    """A recipe with a GAN; ``weights`` seeds the initial weights."""
    torch.manual_seed(weights)
    discriminator = replace(DISCRIMINATOR, normalisation=normalisation)
    config = AutoencoderRecipeConfig(
        autoencoder=AUTOENCODER,
        loss=LPIPSWithDiscriminatorConfig(
            discriminator=discriminator, perceptual=NoPerceptualConfig(), disc_start=0, **loss
        ),
        disc_from=disc_from,
        optimiser=STEADY,
        discriminator_optimiser=STEADY,
    )
    return AutoencoderRecipe(config, loader(count, flip=True), loader(4, first=count))


def quantised_recipe(
    *, weights: int = 0, disc_from: float = 0.3, codebook: CodebookConfig = AVERAGED
) -> AutoencoderRecipe:
    """The same with a codebook of averages that begin at k-means; idle codes start again after every second step."""
    torch.manual_seed(weights)
    config = AutoencoderRecipeConfig(
        autoencoder=QUANTISED,
        loss=VQLPIPSWithDiscriminatorConfig(discriminator=DISCRIMINATOR, perceptual=NoPerceptualConfig(), disc_start=0),
        disc_from=disc_from,
        codebook=codebook,
        optimiser=STEADY,
        discriminator_optimiser=STEADY,
    )
    return AutoencoderRecipe(config, loader(flip=True), loader(4, first=12))


def regularised_recipe(*, weights: int = 0) -> AutoencoderRecipe:
    """The first with latents that are turned and noisy on their way to the decoder, and a learned log-variance."""
    config = replace(
        autoencoder_recipe().config,
        equivariance=EquivarianceConfig(),
        decoder_noise=DecoderNoiseConfig(),
        learn_logvar=True,
    )
    torch.manual_seed(weights)
    return AutoencoderRecipe(config, loader(flip=True), loader(4, first=12))


def autoencoder_artifact(folder: Path) -> Artifact:
    """An untrained autoencoder that is sure of its latents, with their statistics."""
    torch.manual_seed(0)
    model = AUTOENCODER.build().eval()
    model.quant_conv.bias.data[4:] = -10
    shift, scale = latent_statistics(model, loader())
    config = {
        "autoencoder": to_dict(AUTOENCODER),
        "pixel_format": to_dict(PixelFormat()),
        "size": SIZE,
        "latent": {"shift": shift, "scale": scale},
    }
    components = {"autoencoder": model.state_dict(), "autoencoder_ema": model.state_dict()}
    write_artifact(folder, kind="autoencoder", config=config, components=components, provenance={})
    return read_artifact(folder)


def latent_loader(folder: Path, count: int = 12, *, first: int = 0) -> LatentLoader:
    """Latents by the autoencoder in ``folder``, stored beside it."""
    model, images = AUTOENCODER.build(), loader(count, first=first)
    model.load_state_dict(read_artifact(folder).weights("autoencoder"))
    moments = encode_latents(model, images, folder / "latents", str(first), start_session("cpu", "fp32"), quiet=True)
    return LatentLoader(moments, images.images.records)


def diffusion_recipe(
    folder: Path, *, weights: int = 0, conditional: bool = True, dropout: float = 0.1, **changes: Any
) -> DiffusionRecipe:
    """A recipe on the latents of the autoencoder in ``folder``; ``weights`` seeds the initial weights."""
    torch.manual_seed(weights)
    slots = {} if conditional else {"context_channels": None, "vector_channels": None, "transformer_depth": 0}
    config = DiffusionRecipeConfig(
        network=replace(NETWORK, dropout=dropout, **slots),
        conditioner=ConditionerConfig(embedders=(TEXT,) if conditional else ()),
        optimiser=STEADY,
        **changes,
    )
    return DiffusionRecipe(config, read_artifact(folder), latent_loader(folder), latent_loader(folder, 4, first=12))


def conditioned_model(*embedders: FieldConfig) -> LatentDiffusion:
    """An untrained model with these conditions, whose network has no weights of zero to hide a mistake."""
    torch.manual_seed(0)
    conditioner, autoencoder = ConditionerConfig(embedders=embedders), AUTOENCODER.build()
    autoencoder.set_latent_statistics([0.1, 0.2, 0.3, 0.4], [2.0] * 4)
    widths = conditioner.widths(4)
    network = replace(
        NETWORK,
        in_channels=4 + widths.concat,
        context_channels=widths.context or None,
        vector_channels=widths.vector or None,
        transformer_depth=1 if widths.context else 0,
        dropout=0.0,
    ).build()
    for weight in network.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    return LatentDiffusion(
        autoencoder=TrainedAutoencoder(autoencoder, PixelFormat(), SIZE),
        conditioner=conditioner.build(),
        network=network,
        schedule=Flow(),
        prediction="flow",
    )


def tiny_decoder_recipe(folder: Path, *, weights: int = 0, **changes: Any) -> TinyDecoderRecipe:
    """A recipe that imitates the autoencoder in ``folder``; ``weights`` seeds the initial weights."""
    torch.manual_seed(weights)
    decoder = TinyDecoderConfig(widths=(16,), blocks=1)
    config = TinyDecoderRecipeConfig(decoder=decoder, optimiser=STEADY, **changes)
    return TinyDecoderRecipe(config, read_artifact(folder), loader(12, flip=True), loader(4, first=12))


def tensor_files(checkpoint: Path) -> Iterator[tuple[str, bytes]]:
    """Name and contents of every tensor file of a checkpoint."""
    for path in sorted(checkpoint.glob("*.safetensors")):
        yield path.name, path.read_bytes()


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, without what depends on the clock."""
    lines = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key != "samples_per_second"} for line in lines]
