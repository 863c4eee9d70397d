from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import FIRST_STAGES, MODELS, kl
from synthetic import manifests, random_state, write_checkpoint

import tiny
from calotype.conditioner import ConditionerConfig, EncodedImageConfig, LabelEmbedderConfig, PassThroughConfig
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion.schedule import Flow, ScaledLinear
from calotype.interop.original import load_original, original_config, original_keys, save_original
from calotype.interop.original.save import original_of
from calotype.models import NetworkConfig
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.dit import DiTConfig
from calotype.models.quantisers import GumbelQuantizeConfig
from calotype.models.unet import UNetConfig
from calotype.models.vq_model import VQModelConfig
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError

AUTOENCODER = AutoencoderKLConfig(channels=32, channel_multipliers=(1, 2), num_res_blocks=1, latent_channels=4)
NETWORK = UNetConfig(in_channels=4, out_channels=4, channels=32, channel_multipliers=(1, 2), num_res_blocks=1)

SCHEDULE = ScaledLinear()


def loaded(folder: Path, model: dict[str, Any]) -> Any:
    path = write_checkpoint(folder / "model.ckpt", random_state(original_config(model)))
    return load_original(path, model)[0]


def made(
    autoencoder: Any = AUTOENCODER,
    network: NetworkConfig = NETWORK,
    embedders: tuple[Any, ...] = (),
    schedule: Any = SCHEDULE,
    prediction: Any = "eps",
    statistics: tuple[list[float], list[float]] | None = None,
) -> LatentDiffusion:
    """A model of ours."""
    torch.manual_seed(0)
    first_stage = autoencoder.build()
    if statistics is not None:
        first_stage.set_latent_statistics(*statistics)
    return LatentDiffusion(
        autoencoder=TrainedAutoencoder(first_stage, PixelFormat(), 32),
        conditioner=ConditionerConfig(embedders=embedders).build(),
        network=network.build(),
        schedule=schedule,
        prediction=prediction,
    )


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_opens_again_with_the_same_numbers(name: str, tmp_path: Path) -> None:
    model = loaded(tmp_path, MODELS[name])
    config = save_original(model, tmp_path / "out.safetensors")
    for source in (config, tmp_path / "out.yaml"):
        again, report = load_original(tmp_path / "out.safetensors", source)
        assert isinstance(again, LatentDiffusion)
        assert report.tensors == len(load_file(tmp_path / "out.safetensors"))
        for found, expected in zip(again.modules, model.modules, strict=True):
            state = expected.state_dict()
            assert found.state_dict().keys() == state.keys()
            assert all(torch.equal(tensor, state[key]) for key, tensor in found.state_dict().items())
        assert torch.equal(again.autoencoder.latent_scale, model.autoencoder.latent_scale)
        assert (again.schedule, again.prediction) == (model.schedule, model.prediction)
        assert again.conditioner.fields == model.conditioner.fields


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_first_stages_open_again(name: str, tmp_path: Path) -> None:
    model = loaded(tmp_path, FIRST_STAGES[name])
    save_original(model, tmp_path / "out.safetensors")
    again, _ = load_original(tmp_path / "out.safetensors", tmp_path / "out.yaml")
    assert isinstance(again, TrainedAutoencoder)
    state = model.model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in again.model.state_dict().items())


def test_keys_are_those_of_the_original(tmp_path: Path) -> None:
    """Names and shapes of Stable Diffusion's first stage and of its network, at a small width."""
    save_original(made(), tmp_path / "out.safetensors")
    keys = load_file(tmp_path / "out.safetensors").keys()
    assert keys == original_keys(original_of(made())[0]).keys()
    released = manifests()["stable-diffusion/configs/stable-diffusion/v1-inference"]["shapes"].keys()
    shared = {"betas", "model.diffusion_model.out.2.bias", "first_stage_model.decoder.mid.attn_1.q.weight"}
    assert shared <= keys & released


def test_statistics_of_single_channels_go_into_the_convolutions(tmp_path: Path) -> None:
    """What a model of ours samples and reconstructs, the file does as well, without a shift and with a scale of 1."""
    model = made(statistics=([0.5, -1.0, 0.0, 2.0], [0.3, 1.5, 1.0, 0.2]))
    save_original(model, tmp_path / "out.safetensors")
    again, _ = load_original(tmp_path / "out.safetensors", tmp_path / "out.yaml")
    assert isinstance(again, LatentDiffusion)
    assert again.autoencoder.latent_scale.tolist() == [1.0] * 4
    images, latents = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 4, 16, 16)
    torch.testing.assert_close(again.encode(images), model.encode(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again.decode(latents), model.decode(latents), atol=1e-5, rtol=1e-5)
    widths = [ldm.autoencoder.encode(images).std for ldm in (again, model)]
    scale = model.autoencoder.latent_scale[:, None, None]
    torch.testing.assert_close(widths[0], widths[1] * scale, atol=1e-6, rtol=1e-4)


VQ = VQModelConfig(
    channels=32,
    channel_multipliers=(1, 2),
    num_res_blocks=1,
    latent_channels=4,
    quantiser=GumbelQuantizeConfig(codes=8),
)
TOKENS = {"transformer_depth": 1, "context_channels": 8}
REFUSED = {
    "the schedule Flow": {"schedule": Flow(), "prediction": "flow"},
    "the prediction 'v'": {"prediction": "v"},
    "the autoencoder's space_to_depth": {"autoencoder": replace(AUTOENCODER, space_to_depth=2)},
    "a network of the class DiT": {"network": DiTConfig(in_channels=4, out_channels=4, channels=64, depth=1)},
    "the network's space_to_depth": {"network": replace(NETWORK, space_to_depth=2)},
    "the network's vector_channels": {"network": replace(NETWORK, vector_channels=8)},
    "the network's num_classes": {
        "network": replace(NETWORK, num_classes=3),
        "embedders": (LabelEmbedderConfig(classes=("a", "b")),),
    },
    "transformers without a context": {"network": replace(NETWORK, transformer_depth=1)},
    "the embedder 'text'": {"network": replace(NETWORK, **TOKENS), "embedders": (replace(tiny.TEXT, channels=8),)},
    "the vector 'style'": {"embedders": (PassThroughConfig(field="style", slot="vector", channels=8),)},
    "a condition of 2 fields": {
        "embedders": tuple(PassThroughConfig(field=name, slot="context", channels=8) for name in "ab")
    },
    "the quantiser 'gumbel'": {"autoencoder": VQ},
    "the autoencoder's width": {"autoencoder": replace(AUTOENCODER, channels=48)},
    "the network's width": {"network": replace(NETWORK, channels=48, head_channels=48)},
    "the normalised latents of the masked image": {
        "embedders": (EncodedImageConfig(),),
        "statistics": ([0.0] * 4, [0.5] * 4),
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_original_has_no_word_for_is_refused_with_the_reason(what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{what} has no word in the original: .+"):
        save_original(made(**REFUSED[what]), tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_are_not_overwritten(tmp_path: Path) -> None:
    model = loaded(tmp_path, kl())
    with pytest.raises(UserError, match=r"ends so, not 'out\.ckpt'"):
        save_original(model, tmp_path / "out.ckpt")
    (tmp_path / "out.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"out\.yaml exists already"):
        save_original(model, tmp_path / "out.safetensors")
