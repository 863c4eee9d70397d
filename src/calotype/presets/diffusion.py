"""Diffusion presets: the shape of a network joined with a method of training, for any latents and conditions."""

from dataclasses import dataclass, replace

from calotype.conditioner import ConditionerConfig
from calotype.data.image_set import ImageSet
from calotype.diffusion.objectives import Objective
from calotype.diffusion.schedule import Flow, NoiseSchedules, ScaledLinear
from calotype.diffusion.times import LogitNormalTimes
from calotype.presets.conditioning import Setting
from calotype.presets.shapes import DiTShape, Shape, UNetShape
from calotype.presets.tasks import Conditions, Task
from calotype.training.diffusion_recipe import DiffusionRecipeConfig
from calotype.training.ema import EMAConfig, PowerFunctionEMA, WarmUpEMA
from calotype.training.optimiser import OptimiserConfig

GENERATE = Task()


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a network is trained: what it learns on which noise, by which steps, and how its weights are averaged.

    ``mirror`` trains on mirrored images, too. On a CPU, where a run has few samples, many small steps learn more from
    them: there ``cpu_batch_size`` is taken, if given.
    """

    schedule: NoiseSchedules
    objective: Objective
    optimiser: OptimiserConfig
    ema: EMAConfig
    batch_size: int = 64
    cpu_batch_size: int | None = None
    offset_noise: float = 0.0
    input_perturbation: float = 0.0
    mirror: bool = False

    def rate(self, learning_rate: float, *, warmup_samples: int | None = None) -> "Method":
        """Return this method at another learning rate (and warm-up), as networks of other sizes need."""
        warm_up = self.optimiser.warmup_samples if warmup_samples is None else warmup_samples
        return replace(self, optimiser=replace(self.optimiser, learning_rate=learning_rate, warmup_samples=warm_up))


@dataclass(frozen=True, kw_only=True)
class DiffusionPreset:
    """A row: a shape and a method, where they come from and what they should reach."""

    name: str
    summary: str
    reproduces: str = ""
    shape: Shape
    method: Method

    stage = "diffusion"

    @property
    def factor(self) -> int:
        """What height and width of the latents must be multiples of."""
        return self.shape.network(1, ConditionerConfig()).factor

    @property
    def batch_size(self) -> int:
        """Images per step, but on a CPU."""
        return self.method.batch_size

    def batch_size_on(self, device: str) -> int:
        """Return the images per step on a type of device, ``cpu`` or another."""
        return self.method.cpu_batch_size or self.batch_size if device == "cpu" else self.batch_size

    def conditions(
        self, images: ImageSet, task: Task = GENERATE, *, factor: int = 1, image_channels: int = 3
    ) -> Conditions:
        """Return what a model for these images and this task is conditioned on.

        ``factor`` is that of the autoencoder, and ``image_channels`` what it takes.

        Raises:
            UserError: as ``Task.conditions_for``.
        """
        shape = self.shape
        setting = Setting(
            channels=shape.text_channels, layers=shape.text_layers, factor=factor, image_channels=image_channels
        )
        return task.conditions_for(images, setting)

    def recipe(
        self, latent_channels: int, images: ImageSet, conditions: Conditions | None = None
    ) -> DiffusionRecipeConfig:
        """Return the recipe for latents of this width, under the conditions, by default those of the images' fields."""
        conditions = conditions or self.conditions(images)
        return DiffusionRecipeConfig(
            network=self.shape.network(latent_channels, conditions.conditioner),
            conditioner=conditions.conditioner,
            derived=conditions.derived,
            schedule=self.method.schedule,
            objective=self.method.objective,
            optimiser=self.method.optimiser,
            offset_noise=self.method.offset_noise,
            input_perturbation=self.method.input_perturbation,
        )


MODERN = Method(
    schedule=Flow(),
    objective=Objective(prediction="flow", times=LogitNormalTimes()),
    optimiser=OptimiserConfig(learning_rate=1.5e-3),
    ema=PowerFunctionEMA(),
    cpu_batch_size=16,
)
LDM2022 = Method(
    schedule=ScaledLinear(beta_start=0.0015, beta_end=0.0195),
    objective=Objective(prediction="eps"),
    optimiser=OptimiserConfig(
        learning_rate=9.6e-5, betas=(0.9, 0.999), weight_decay=0.01, warmup_samples=0, decay_from=1.0, clip=0.0
    ),
    ema=WarmUpEMA(decay=0.9999),
    batch_size=48,
)
"""What the reference trains its unconditional models by; its learning rate is 2e-6 for every image of a batch."""

SMALL = UNetShape(channels=128, channel_multipliers=(1, 1), space_to_depth=2)
EMOJI = replace(SMALL, channels=112, head_channels=28, text_channels=96)
DEBUG = UNetShape(channels=64, text_channels=32, text_layers=1)
BASE = UNetShape(
    channels=224,
    channel_multipliers=(1, 2, 3, 4),
    num_res_blocks=2,
    attention_factors=(2, 4, 8),
    text_channels=512,
    text_layers=8,
)
DIT_SMALL = DiTShape(channels=192, depth=6)
DIT_BASE = DiTShape(channels=768, depth=12, text_channels=512, text_layers=8)
PAPER = replace(BASE, scale_shift_norm=False, text_channels=640, text_layers=32)

DIFFUSION: dict[str, DiffusionPreset] = {
    preset.name: preset
    for preset in (
        DiffusionPreset(
            name="modern",
            summary="flow matching with a small UNet for 16x16 latents; what `calotype run` takes",
            reproduces="docs/results/demo.md",
            shape=SMALL,
            method=MODERN,
        ),
        DiffusionPreset(
            name="ldm2022",
            summary="the same network by the paper's method: eps, uniform times, its schedule, optimiser and EMA",
            shape=SMALL,
            method=LDM2022,
        ),
        DiffusionPreset(
            name="ldm-emoji",
            summary="flow matching within 16 MB: the model that comes with the package",
            reproduces="src/calotype/presets/embedded/MODEL_CARD.md",
            shape=EMOJI,
            method=MODERN,
        ),
        DiffusionPreset(
            name="ldm-debug",
            summary="takes a stage through in seconds; for tests",
            shape=DEBUG,
            method=replace(MODERN.rate(1e-3, warmup_samples=80), batch_size=8, cpu_batch_size=8),
        ),
        DiffusionPreset(
            name="modern-base",
            summary="as modern, with a UNet of about 290 M parameters (430 M with text); for GPUs",
            shape=BASE,
            method=MODERN.rate(1e-4, warmup_samples=64_000),
        ),
        DiffusionPreset(
            name="ldm2022-base",
            summary="the paper's method with its UNet; for GPUs",
            reproduces="arXiv:2112.10752, Table 1 (needs the paper's data)",
            shape=PAPER,
            method=LDM2022,
        ),
        DiffusionPreset(
            name="dit-small",
            summary="as modern, with a small diffusion transformer",
            shape=DIT_SMALL,
            method=MODERN.rate(1e-3),
        ),
        DiffusionPreset(
            name="dit-base",
            summary="as modern, with a diffusion transformer of about 130 M parameters (155 M with text); for GPUs",
            shape=DIT_BASE,
            method=MODERN.rate(1e-4, warmup_samples=64_000),
        ),
    )
}
