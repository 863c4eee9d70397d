"""Whole checkpoints of released models, as long as the real ones, opened from sparse files."""

import math
import resource
from pathlib import Path

import pytest
import torch
from synthetic import FACTS, SCALE_FACTOR, manifests, write_full_size

from calotype.interop.original import load_original, original_config
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder

NAMES = [
    "first_stage_models/kl-f8",
    "first_stage_models/vq-f4",
    "latent-diffusion/cin256-v2",
    "latent-diffusion/txt2img-1p4B-eval",
    "ldm/bsr_sr",
    "ldm/celeba256",
    "ldm/inpainting_big",
    "ldm/layout2img-openimages256",
    "ldm/lsun_churches256",
    "ldm/semantic_synthesis256",
    "retrieval-augmented-diffusion/768x768",
    "stable-diffusion/configs/stable-diffusion/v1-inference",
]
GIB = 2**30


@pytest.mark.parametrize("name", NAMES)
def test_a_full_size_checkpoint_opens_without_copying_its_weights(name: str, tmp_path: Path) -> None:
    recorded = manifests()[name]
    config = original_config(recorded)
    path = write_full_size(tmp_path / "model.ckpt", config)
    assert path.stat().st_blocks * 512 < 64 * 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    try:
        model, report = load_original(path, config)
    finally:
        path.unlink()  # the mapping lives on

    assert report.tensors == len(recorded["shapes"])
    assert sum(row.numbers for row in report.rows) == sum(math.prod(shape) for shape in recorded["shapes"].values())
    assert report.facts == FACTS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < 1.5 * GIB
    groups = recorded["groups"]
    if isinstance(model, TrainedAutoencoder):
        parts = ("encoder", "decoder", "quantize", "quant_conv", "post_quant_conv")
        assert numbers(model.model) == sum(groups[part]["numel"] for part in parts if part in groups)
        return
    assert isinstance(model, LatentDiffusion)
    assert numbers(model.network) == groups["model.diffusion_model"]["numel"]
    assert numbers(model.autoencoder) == groups["first_stage_model"]["numel"]
    scale = 1.0 if config.diffusion is None else config.diffusion.scale_factor or SCALE_FACTOR
    torch.testing.assert_close(model.autoencoder.latent_scale[0], torch.tensor(scale))
    assert model.latent_shape()[1] == recorded["model"]["params"]["image_size"]


def numbers(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())
