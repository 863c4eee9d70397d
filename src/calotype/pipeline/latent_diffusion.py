"""A trained latent diffusion model, ready to draw: condition, encode, decode, denoise, sample; nothing more."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.conditioner import Conditioner, TextEmbedder
from calotype.data.derived import DerivedFields
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion import (
    CFG,
    Autoguidance,
    Conditioning,
    Denoise,
    Denoiser,
    DPMSolver,
    NoiseSource,
    Solver,
    State,
    solve,
)
from calotype.diffusion.grid import Spacing
from calotype.diffusion.prediction import Prediction
from calotype.diffusion.schedule import NoiseSchedule
from calotype.encoders import RetrievalIndex
from calotype.models import Network
from calotype.pipeline.trained_autoencoder import TrainedAutoencoder
from calotype.utils.errors import UserError
from calotype.utils.progress import progress as show_progress
from calotype.utils.size import Size, height_width, size_text

STEPS, GUIDANCE, AUTOGUIDANCE = 20, 3.0, 2.0


class LatentDiffusion:
    """An autoencoder, a conditioner and a network with the noise schedule and prediction that it was trained for.

    ``derived`` says how fields that come from the image itself were made in training; ``index`` is what the neighbours
    of a model that looks for them were found in.
    """

    kind = "latent_diffusion"

    def __init__(
        self,
        *,
        autoencoder: TrainedAutoencoder,
        conditioner: Conditioner,
        network: Network,
        schedule: NoiseSchedule,
        prediction: Prediction,
        derived: Sequence[DerivedFields] = (),
        index: RetrievalIndex | None = None,
    ) -> None:
        self.first_stage, self.derived, self.index = autoencoder, tuple(derived), index
        self.autoencoder, self.conditioner, self.network = autoencoder.model, conditioner, network
        self.schedule, self.prediction = schedule, prediction
        conditioner.attach(autoencoder.model)
        for module in self.modules:
            module.eval().requires_grad_(False)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Everything with weights."""
        return self.autoencoder, self.conditioner, self.network

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def denoiser(self) -> Denoiser:
        """The network as an estimate of clean latents."""
        return Denoiser(self.network, self.schedule, self.prediction)

    @property
    def pixel_format(self) -> PixelFormat:
        """How images map to files."""
        return self.first_stage.pixel_format

    def to(self, device: torch.device | str) -> "LatentDiffusion":
        """Move everything to ``device`` and return self."""
        for module in self.modules:
            module.to(device)
        return self

    def condition(self, count: int | None = None, *, size: Size | None = None, **fields: Sequence[Any]) -> Conditioning:
        """Embed one value per image and field; without fields (give ``count``) the null condition.

        ``size`` is that of the images (the training size if None): that of nulls which are images.

        Raises:
            UserError: a field or value that this model does not know.
        """
        count = count if count is not None else len(next(iter(fields.values()), ()))
        with torch.no_grad():
            return self.conditioner.embed(fields, count, self.device, self._extent(size))

    def denoise(
        self,
        count: int,
        guidance: CFG | None = None,
        negative: Mapping[str, Sequence[Any]] | None = None,
        weak: "LatentDiffusion | None" = None,
        *,
        size: Size | None = None,
        **fields: Sequence[Any],
    ) -> Denoise:
        """Return what a solver takes: the denoiser under these fields (one value per image) and guidance.

        ``size`` is that of the images, as in ``condition``.

        Guidance leads away from the model's null condition, or from the fields ``negative`` (a caption of what is not
        wanted; for Stable Diffusion the embedding of an empty caption). It defaults to CFG of 3 where there are fields
        and something to lead away from, else to none.

        With ``weak``, a worse model on the same latents (smaller, or an earlier checkpoint), it leads away from what
        that says under the same fields: autoguidance, of 2 by default, which needs no condition at all.

        Raises:
            UserError: a field that does not fit, or guidance of a model without a null condition.
        """
        cond = self.condition(count, size=size, **fields)
        if weak is not None:
            return self._autoguided(count, cond, weak, guidance or CFG(AUTOGUIDANCE), negative, fields, size)
        guidance = guidance or CFG(GUIDANCE if fields and (negative or self.conditioner.has_null) else 1.0)
        if guidance.off:
            return self.denoiser.bind(cond)
        if negative:
            return guidance(self.denoiser, cond, self.condition(count, size=size, **negative))
        with torch.no_grad():
            return guidance(
                self.denoiser, cond, self.conditioner.embed_null(fields, count, self.device, self._extent(size))
            )

    def _autoguided(
        self,
        count: int,
        cond: Conditioning,
        weak: "LatentDiffusion",
        guidance: CFG,
        negative: Mapping[str, Sequence[Any]] | None,
        fields: Mapping[str, Sequence[Any]],
        size: Size | None,
    ) -> Denoise:
        ours, theirs = self.autoencoder, weak.autoencoder
        same = all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in ("latent_shift", "latent_scale"))
        if weak.schedule != self.schedule or not same:
            raise UserError("weak: it must have this model's autoencoder and noise schedule")
        if negative or guidance.rescale:
            raise UserError("weak takes the place of the null condition: leave negative and rescale out")
        lead = Autoguidance(guidance.scale, interval=guidance.interval)
        return lead(self.denoiser.bind(cond), weak.denoiser.bind(weak.condition(count, size=size, **fields)))

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that this model has no token for; it leaves them out."""
        embedders = [embedder for embedder in self.conditioner.embedders.values() if isinstance(embedder, TextEmbedder)]
        return embedders[0].tokenizer.unknown(caption) if embedders else []

    def latent_shape(self, size: Size | None = None) -> tuple[int, int, int]:
        """Return (c, h, w) of the latents for an image of ``size`` pixels (the training size if None).

        Raises:
            UserError: the size does not fit the networks.
        """
        size = self.first_stage.size if size is None else size
        height, width = height_width(size)
        multiple = self.autoencoder.factor * self.network.config.factor
        if min(height, width) < multiple or height % multiple or width % multiple:
            raise UserError(f"size must be a multiple of {multiple}, not {size_text(size)}")
        factor = self.autoencoder.factor
        return self.autoencoder.latent_channels, height // factor, width // factor

    def _extent(self, size: Size | None) -> tuple[int, int]:
        return height_width(self.first_stage.size if size is None else size)

    def noise(self, seeds: Iterable[int], size: Size | None = None) -> Float[Tensor, "b c h w"]:
        """Return the noise that sampling starts from; image i depends on seed i alone."""
        return NoiseSource(seeds).initial(self.latent_shape(size), device=self.device)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return normalised latents (the posterior's mode) of images in [-1, 1]."""
        return self.autoencoder.normalise(self.autoencoder.encode(images.to(self.device)).mode())

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b d h2 w2"], *, clip: bool = True) -> Float[Tensor, "b c h w"]:
        """Return images for normalised latents, clipped to [-1, 1] or as the decoder makes them."""
        images = self.autoencoder.decode(self.autoencoder.denormalise(latents)).float()
        return images.clamp(-1, 1) if clip else images

    @torch.no_grad()
    def sample(
        self,
        *,
        seeds: Iterable[int] | None = None,
        noise: Float[Tensor, "k d h2 w2"] | None = None,
        steps: int = STEPS,
        solver: Solver | None = None,
        spacing: Spacing | None = None,
        guidance: CFG | None = None,
        negative: Mapping[str, Sequence[Any]] | None = None,
        weak: "LatentDiffusion | None" = None,
        size: Size | None = None,
        batch_size: int = 32,
        clip: bool = True,
        progress: bool = False,
        watch: Callable[[State], bool | None] | None = None,
        **fields: Any,
    ) -> Float[Tensor, "n c h w"]:
        """Draw one image per seed; ``fields`` hold one value per image (``caption=["a red apple", ...]``).

        Image i depends on seed i (and its own fields) alone, whatever the batch size. Guidance, ``negative`` (one value
        per image, too) and ``weak`` are as in ``denoise``, the solver defaults to DPM-Solver++(2M), ``spacing`` to that
        of the schedule. ``size`` may differ from that of training. With ``noise`` (of ``self.noise``, ``tasks.invert``,
        ``tasks.interpolate``) images start from it instead, have its size, and seeds (0, 1 ... by default) matter only
        to solvers that add more.
        ``clip=False`` leaves values beyond [-1, 1] as they are, for ``PixelFormat.to_file`` to count.

        ``watch`` is shown the state of each batch after every step; ``state.x0`` are the latents it expects in the end.
        Where it returns True sampling stops: the batch at hand is decoded from ``state.x0``, those after it are not
        drawn, and there are fewer images than seeds. (``solve`` is the same loop as a generator, to be left anywhere.)

        Raises:
            UserError: a field, size or guidance that does not fit.
        """
        seeds = list(range(0 if noise is None else len(noise)) if seeds is None else seeds)
        if not seeds:
            raise UserError("seeds must name at least one image")
        given_noise = {} if noise is None else {"noise": noise}
        for name, values in (*given_noise.items(), *fields.items(), *(negative or {}).items()):
            if isinstance(values, str) or len(values) != len(seeds):
                raise UserError(f"{name}: give a list with one value per seed, {len(seeds)} of them")
        solver = solver or DPMSolver()
        grid = self.schedule.grid(steps, spacing)
        images: list[Tensor] = []
        with show_progress("sampling", len(seeds) * steps, unit="steps", quiet=not progress) as bar:
            for start in range(0, len(seeds), batch_size):
                rows = slice(start, start + batch_size)
                own = seeds[rows]
                x = self.noise(own, size) if noise is None else noise[rows].to(self.device)
                given, away = (
                    {name: values[rows] for name, values in each.items()} for each in (fields, negative or {})
                )
                extent = x.shape[2] * self.autoencoder.factor, x.shape[3] * self.autoencoder.factor
                denoise = self.denoise(len(own), guidance and guidance.rows(rows), away, weak, size=extent, **given)
                for state in solve(denoise, x, grid, solver, noise=NoiseSource(own)):
                    x = state.x
                    bar.advance(len(own))
                    if watch is not None and watch(state):
                        return torch.cat([*images, self.decode(state.x0, clip=clip).cpu()])
                images.append(self.decode(x, clip=clip).cpu())
        return torch.cat(images)
