"""Diffusion presets: a network and how it is trained, for whatever latents and conditions there are."""

from dataclasses import dataclass, replace

from calotype.conditioner import ConditionerConfig, LabelEmbedderConfig, TextEmbedderConfig
from calotype.data.image_set import ImageSet
from calotype.diffusion.objectives import LogitNormalTimes, Objective
from calotype.diffusion.schedule import Flow, NoiseSchedules, ScaledLinear
from calotype.models.unet import UNetConfig
from calotype.presets.conditioning import conditioner_for
from calotype.training.diffusion_recipe import DiffusionRecipeConfig
from calotype.training.ema import EMAConfig, PowerFunctionEMA, WarmUpEMA
from calotype.training.optimiser import OptimiserConfig

MODERN = Objective(prediction="flow", times=LogitNormalTimes())


@dataclass(frozen=True, kw_only=True)
class DiffusionPreset:
    """A row: the network's shape, how it is trained, where that comes from and what it should reach."""

    name: str
    summary: str
    reproduces: str
    channels: int
    channel_multipliers: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1
    attention_factors: tuple[int, ...] = (1, 2)
    head_channels: int = 32
    space_to_depth: int = 1
    scale_shift_norm: bool = True
    text_channels: int = 128
    text_layers: int = 2
    schedule: NoiseSchedules = Flow()
    objective: Objective = MODERN
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=1e-3)
    ema: EMAConfig = PowerFunctionEMA()
    batch_size: int = 64

    stage = "diffusion"

    @property
    def factor(self) -> int:
        """What height and width of the latents must be multiples of."""
        return self._network(1, ConditionerConfig()).factor

    def conditioner(self, images: ImageSet) -> ConditionerConfig:
        """Return the conditioner for the fields of these images."""
        return conditioner_for(images, channels=self.text_channels, layers=self.text_layers)

    def recipe(self, latent_channels: int, images: ImageSet) -> DiffusionRecipeConfig:
        """Return the recipe for latents of this width and the fields of these images."""
        conditioner = self.conditioner(images)
        return DiffusionRecipeConfig(
            network=self._network(latent_channels, conditioner),
            conditioner=conditioner,
            schedule=self.schedule,
            objective=self.objective,
            optimiser=self.optimiser,
        )

    def _network(self, latent_channels: int, conditioner: ConditionerConfig) -> UNetConfig:
        network = UNetConfig(
            in_channels=latent_channels,
            out_channels=latent_channels,
            channels=self.channels,
            channel_multipliers=self.channel_multipliers,
            num_res_blocks=self.num_res_blocks,
            attention_factors=self.attention_factors,
            head_channels=self.head_channels,
            space_to_depth=self.space_to_depth,
            scale_shift_norm=self.scale_shift_norm,
        )
        for embedder in conditioner.embedders:
            if isinstance(embedder, TextEmbedderConfig):
                network = replace(
                    network,
                    transformer_depth=1,
                    context_channels=embedder.channels,
                    vector_channels=embedder.channels if embedder.pooled else None,
                )
            elif isinstance(embedder, LabelEmbedderConfig):
                network = replace(network, num_classes=len(embedder.classes) + 1)
        return network


DIFFUSION: dict[str, DiffusionPreset] = {
    preset.name: preset
    for preset in (
        DiffusionPreset(
            name="ldm-small",
            summary="flow matching with a small UNet; made for CPUs and 16x16 latents",
            reproduces="docs/results/demo.md",
            channels=128,
            channel_multipliers=(1, 1),
            space_to_depth=2,
            optimiser=OptimiserConfig(learning_rate=1.5e-3),
        ),
        DiffusionPreset(
            name="ldm-emoji",
            summary="as ldm-small, within the 16 MB of the model that comes with the package",
            reproduces="src/calotype/presets/embedded/MODEL_CARD.md",
            channels=112,
            channel_multipliers=(1, 1),
            head_channels=28,
            space_to_depth=2,
            text_channels=96,
            optimiser=OptimiserConfig(learning_rate=1.5e-3),
        ),
        DiffusionPreset(
            name="ldm-debug",
            summary="takes a stage through in seconds; for tests",
            reproduces="",
            channels=64,
            text_channels=32,
            text_layers=1,
            optimiser=OptimiserConfig(learning_rate=1e-3, warmup_samples=80),
            batch_size=8,
        ),
        DiffusionPreset(
            name="ldm-base",
            summary="flow matching with a UNet of about 290 M parameters (430 M with text); for GPUs",
            reproduces="",
            channels=224,
            channel_multipliers=(1, 2, 3, 4),
            num_res_blocks=2,
            attention_factors=(2, 4, 8),
            text_channels=512,
            text_layers=8,
            optimiser=OptimiserConfig(learning_rate=1e-4, warmup_samples=64_000),
        ),
        DiffusionPreset(
            name="ldm2022",
            summary="the paper's recipe: eps, uniform times, the reference's noise schedule, UNet and optimiser",
            reproduces="arXiv:2112.10752, Table 1 at full size (needs a GPU and the paper's data)",
            channels=224,
            channel_multipliers=(1, 2, 3, 4),
            num_res_blocks=2,
            attention_factors=(2, 4, 8),
            scale_shift_norm=False,
            text_channels=640,
            text_layers=32,
            schedule=ScaledLinear(beta_start=0.0015, beta_end=0.0195),
            objective=Objective(prediction="eps"),
            optimiser=OptimiserConfig(
                learning_rate=9.6e-5,
                betas=(0.9, 0.999),
                weight_decay=0.01,
                warmup_samples=0,
                decay_from=1.0,
                clip=0.0,
            ),
            ema=WarmUpEMA(decay=0.9999),
            batch_size=48,
        ),
    )
}
