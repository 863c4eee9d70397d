"""One training step of latent diffusion: noise the latents, predict, compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calotype.artifact import Artifact
from calotype.conditioner import Conditioner, ConditionerConfig
from calotype.data.derived import DerivedFields
from calotype.data.latents import LatentBatch, LatentLoader
from calotype.diffusion.importance import ImportanceSampler
from calotype.diffusion.log_variance import FourierLogVariance, LogVariance
from calotype.diffusion.objectives import LossTerms, Objective, q_sample
from calotype.diffusion.schedule import Flow, NoiseSchedule, NoiseSchedules
from calotype.diffusion.times import ImportanceTimes
from calotype.models import NetworkConfig
from calotype.pipeline import LatentDiffusion, load_autoencoder
from calotype.training.draws import Draws
from calotype.training.optimiser import OptimiserConfig, check_finite, check_gradients
from calotype.training.recipe import Recipe
from calotype.training.session import Session
from calotype.utils import distributed
from calotype.utils.config import Config, to_dict
from calotype.utils.files import digest
from calotype.utils.images import image_grid

VALIDATION_IMAGES = 256
PREVIEWS, PREVIEW_STEPS = 16, 12


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipeConfig(Config):
    """A network, what it is conditioned on, and what it learns to predict on which schedule.

    ``offset_noise`` adds a constant of this standard deviation to every channel's noise: models on schedules that end
    before pure noise then learn to change the mean of an image. ``input_perturbation`` noises the network's input, but
    not its target, by this much more (gamma of Algorithm 1, arXiv:2301.11706). ``derived`` are fields that are made
    from the images themselves.
    """

    network: NetworkConfig
    conditioner: ConditionerConfig = ConditionerConfig()
    derived: tuple[DerivedFields, ...] = ()
    schedule: NoiseSchedules = Flow()
    objective: Objective = Objective(prediction="flow")
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=1e-3)
    offset_noise: float = 0.0
    input_perturbation: float = 0.0

    def __post_init__(self) -> None:
        self.objective.check(self.schedule)
        for name in ("offset_noise", "input_perturbation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")


class DiffusionRecipe(Recipe):
    """Trains a network and its conditioner on stored latents (arXiv:2112.10752, Eq. 2 and 3).

    ``autoencoder`` is the artifact that made the latents; it becomes part of every checkpoint, and so does the file of
    the ``index`` in which neighbours are found.
    """

    kind = LatentDiffusion.kind
    watched = "loss_simple"

    def __init__(
        self,
        config: DiffusionRecipeConfig,
        autoencoder: Artifact,
        train: LatentLoader,
        held_out: LatentLoader | None = None,
        index: Path | None = None,
    ) -> None:
        self.config, self.artifact, self.train, self.held_out = config, autoencoder, train, held_out
        self.index = index
        self.first_stage = load_autoencoder(autoencoder)
        self.network = config.network.build()
        self.conditioner = config.conditioner.build()
        self.conditioner.attach(self.first_stage.model)
        self.averaged = {"network": self.network, "conditioner": self.conditioner}
        self.auxiliary = {}
        self.schedule: NoiseSchedule = config.schedule
        self.log_variance: LogVariance | FourierLogVariance | None = None
        if config.objective.log_variance is not None:
            self.log_variance = config.objective.log_variance.build(config.schedule)
            self.averaged["log_variance"] = self.log_variance
        self.importance: ImportanceSampler | None = None
        if isinstance(config.objective.times, ImportanceTimes):
            self.importance = ImportanceSampler(config.objective.times)
            self.auxiliary["importance"] = self.importance

    def start(self, session: Session, batch_size: int) -> None:  # noqa: ARG002
        """Move to the device and build the optimiser over network, conditioner and learned log-variance."""
        self.session = session
        self.first_stage.model.to(session.device)
        self.core = _Core(self.network, self.conditioner, self.log_variance, self.schedule).to(session.device).train()
        self.forward = session.wrap(self.core)
        self.optimiser = self.config.optimiser.build(self.core.parameters())
        self.optimisers = {"network": (self.optimiser, self.config.optimiser)}

    def step(self, batch: LatentBatch, draws: Draws) -> dict[str, Tensor]:
        """Sample the posterior, a time and noise for every image; predict from ``alpha x_0 + sigma eps``; update."""
        device, objective = self.session.device, self.config.objective
        x0 = self._latents(batch, draws.normal("posterior", *self._latent_shape(batch)))
        times = self.importance or objective.times
        t = draws.make("time", lambda count, generator: times.sample(count, generator, self.schedule))
        noise, shown = self._noise(x0, draws)
        inputs = self.conditioner.prepare_training(batch.fields, len(x0), draws.keys("augment"), self._extent(x0))
        uniform = {name: draws.uniform(f"drop {name}").to(device) for name in self.conditioner.fields}

        x_t = q_sample(x0, shown, t.to(device), self.schedule)
        with self.session.autocast():
            output, logvar = self.forward(
                x_t,
                t.to(device),
                {name: tensor.to(device) for name, tensor in inputs.items()},
                self.conditioner.draw_drop(uniform),
            )
        terms = objective.terms(output.to(x0.dtype), x0, noise, t.to(device), self.schedule, logvar)
        check_finite(terms.total.detach(), "the loss")
        terms = self._reweighed(terms, t, draws)
        loss = terms.total.mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = check_gradients(self.optimiser, self.config.optimiser.clip, "the network")
        self.optimiser.step()
        logs = {**terms.logs(), "gradient_norm": norm}
        return logs if self.log_variance is None else {**logs, "logvar": self.log_variance.mean()}

    @torch.no_grad()
    def validate(self, averaged: Mapping[str, nn.Module]) -> dict[str, float]:
        """Return the losses on held-out latents with fixed times and fixed noise: comparable along the run."""
        if self.held_out is None:
            return {}
        count = min(len(self.held_out), VALIDATION_IMAGES)
        batch, draws = self.held_out.at(range(count)), Draws(0, 0, count, slice(None))
        x0 = self._latents(batch, torch.zeros(count, *self._latent_shape(batch)))
        noise = draws.normal("noise", *x0.shape[1:]).to(x0)
        t = self.schedule.training_time((torch.arange(count, dtype=torch.float64) + 0.5) / count).to(x0.device)
        model = self._pipeline(averaged)
        x_t = q_sample(x0, noise, t, self.schedule)
        with self.session.autocast():
            output = model.denoiser.output(x_t, t, model.condition(count, **self._fields(batch)))
        logvar = averaged["log_variance"](t) if self.log_variance is not None else None
        terms = self.config.objective.terms(output.float(), x0.float(), noise, t, self.schedule, logvar)
        return {name: float(value) for name, value in terms.logs().items()}

    @torch.no_grad()
    def preview(self, averaged: Mapping[str, nn.Module]) -> np.ndarray | None:
        """Draw samples for the conditions of fixed training images."""
        step = max(1, len(self.train) // PREVIEWS)
        batch = self.train.at(range(0, len(self.train), step)[:PREVIEWS])
        with self.session.autocast():
            samples = self._pipeline(averaged).sample(
                seeds=range(len(batch.indices)), steps=PREVIEW_STEPS, **self._fields(batch)
            )
        return image_grid(samples, columns=8)

    def artifact_config(self, averaged: Mapping[str, nn.Module], complete: bool) -> dict[str, Any]:  # noqa: ARG002
        """Return what the artifact stores: the autoencoder's configuration and the model's own."""
        return {
            **self.artifact.config,
            "network": to_dict(self.config.network),
            "conditioner": to_dict(self.config.conditioner),
            "derived": [to_dict(each) for each in self.config.derived],
            "schedule": to_dict(self.config.schedule),
            "prediction": self.config.objective.prediction,
        }

    def artifact_components(self) -> dict[str, Any]:
        """Return the autoencoder that the latents came from (its averaged weights) and the index: links, not copies."""
        files = {"autoencoder": self.artifact.file("autoencoder"), "index": self.index}
        return {name: path for name, path in files.items() if path is not None}

    def recipe_config(self) -> dict[str, Any]:
        """Return the configuration with what it is trained on."""
        trained_on = {
            "images": len(self.train),
            "records": digest(repr(self.train.records)),
            "latent_statistics": self.artifact.config["latent"],
            **({"mirrored": True} if self.train.mirrored is not None else {}),
        }
        return {"kind": self.kind, **to_dict(self.config), "data": trained_on}

    def _latents(self, batch: LatentBatch, noise: Tensor) -> Tensor:
        moments = batch.moments.to(self.first_stage.model.latent_shift)
        return self.first_stage.model.normalise(moments.sample(noise.to(moments.mean)))

    def _noise(self, x0: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return the noise to be learned, and that which the network is shown."""
        config, shape = self.config, x0.shape[1:]
        noise = draws.normal("noise", *shape).to(x0)
        if config.offset_noise:
            noise = noise + config.offset_noise * draws.normal("offset", shape[0], 1, 1).to(x0)
        if not config.input_perturbation:
            return noise, noise
        return noise, noise + config.input_perturbation * draws.normal("perturbation", *shape).to(x0)

    def _reweighed(self, terms: LossTerms, t: Tensor, draws: Draws) -> LossTerms:
        """Make up for times that are drawn more often than others, and remember what they cost."""
        if self.importance is None:
            return terms
        weights = self.importance.weights(t, self.schedule).to(terms.total)
        everyone = torch.zeros(2, draws.count, dtype=torch.float64)
        everyone[:, draws.rows] = torch.stack([t.double(), terms.total.detach().double().cpu()])
        times, losses = distributed.total(everyone)
        self.importance.record(times, losses, self.schedule)
        return terms.times(weights)

    def _extent(self, latents: Tensor) -> tuple[int, int]:
        """Return height and width of the images that the latents are of."""
        factor = self.first_stage.model.factor
        return latents.shape[2] * factor, latents.shape[3] * factor

    def _fields(self, batch: LatentBatch) -> dict[str, Any]:
        return self.conditioner.known(batch.fields)

    @staticmethod
    def _latent_shape(batch: LatentBatch) -> tuple[int, ...]:
        return tuple(batch.moments.mean.shape[1:])

    def _pipeline(self, averaged: Mapping[str, nn.Module]) -> LatentDiffusion:
        return LatentDiffusion(
            autoencoder=self.first_stage,
            conditioner=averaged["conditioner"],  # type: ignore[arg-type]
            network=averaged["network"],  # type: ignore[arg-type]
            schedule=self.schedule,
            prediction=self.config.objective.prediction,
            derived=self.config.derived,
        )


class _Core(nn.Module):
    """Conditioner, network and log-variance as one module: what is trained, and what several processes share."""

    def __init__(
        self,
        network: nn.Module,
        conditioner: Conditioner,
        log_variance: LogVariance | FourierLogVariance | None,
        schedule: NoiseSchedule,
    ) -> None:
        super().__init__()
        self.network, self.conditioner, self.log_variance, self.schedule = network, conditioner, log_variance, schedule

    def forward(
        self, x_t: Tensor, t: Tensor, inputs: dict[str, Tensor], drop: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        time = self.schedule.network_time(t).float()
        output = self.network(x_t, time, **self.conditioner(inputs, drop).slots())
        return output, None if self.log_variance is None else self.log_variance(t)
