import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small import FIRST_STAGES, MODELS, kl
from synthetic import FACTS, SCALE_FACTOR, random_state, write_checkpoint
from torch import Tensor

from calotype.interop.original import Report, load_original, original_config
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError


def write(folder: Path, model: dict[str, Any], **changes: Tensor | None) -> Path:
    """A checkpoint of a small configuration; tensors may be changed, or left out."""
    state: dict[str, Tensor | None] = {**random_state(original_config(model)), **changes}
    return write_checkpoint(folder / "model.ckpt", {key: tensor for key, tensor in state.items() if tensor is not None})


def opened(folder: Path, name: str, **options: Any) -> tuple[Any, Report, dict[str, Tensor]]:
    model = (MODELS | FIRST_STAGES)[name]
    loaded, report = load_original(write(folder, model), model, **options)
    return loaded, report, random_state(original_config(model))


def equal(found: dict[str, Tensor], state: dict[str, Tensor], prefix: str) -> bool:
    return bool(found) and all(torch.equal(tensor, state[prefix + key]) for key, tensor in found.items())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_numbers_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    model, report, state = opened(tmp_path, name, weights="raw")
    assert isinstance(model, LatentDiffusion)
    assert equal(model.network.state_dict(), state, "model.diffusion_model.")
    assert name == "pixels" or equal(model.autoencoder.state_dict(), state, "first_stage_model.")
    for field in model.conditioner.fields:
        own = {
            key.removeprefix(f"embedders.{field}."): tensor for key, tensor in model.conditioner.state_dict().items()
        }
        assert equal(own, state, "cond_stage_model.") or not own
    assert report.tensors == len(state)
    assert report.facts == FACTS


@pytest.mark.parametrize("name", MODELS)
def test_the_moving_average_is_taken_unless_asked_otherwise(name: str, tmp_path: Path) -> None:
    model, report, state = opened(tmp_path, name)
    for key, tensor in model.network.named_parameters():
        assert torch.equal(tensor, state["model_ema.diffusion_model" + key.replace(".", "")])
    assert "model_ema.*" in str(report)


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_a_first_stage_has_the_numbers_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    model, report, state = opened(tmp_path, name)
    assert isinstance(model, TrainedAutoencoder)
    assert equal(model.model.state_dict(), state, "")
    assert model.model.state_dict().keys() == {key for key in state if not key.startswith("loss.")}
    assert report.tensors == len(state)
    assert model.size == 32


@pytest.mark.parametrize("name", MODELS)
def test_a_network_answers_as_one_that_was_loaded_by_hand(name: str, tmp_path: Path) -> None:
    model, _, state = opened(tmp_path, name, weights="raw")
    network = model.network.config.build().eval()
    prefix = "model.diffusion_model."
    network.load_state_dict({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, network.config.in_channels, 16, 16, generator=generator)
    width = network.config.context_channels
    context = None if width is None else torch.randn(1, 3, width, generator=generator)
    t = torch.tensor([7.0])
    assert torch.equal(model.network(x, t, context=context), network(x, t, context=context))
    assert model.network(x, t, context=context).abs().max() > 0.1


def test_latents_are_scaled_as_the_original_scales_them(tmp_path: Path) -> None:
    measured, *_ = opened(tmp_path, "scaled by its deviation")
    assert measured.autoencoder.latent_scale.tolist() == [torch.tensor(SCALE_FACTOR).item()] * 4
    given = {**MODELS["caption"], "params": {**MODELS["caption"]["params"], "scale_factor": 0.18215}}
    model, _ = load_original(write(tmp_path, given), given)
    assert isinstance(model, LatentDiffusion)
    torch.testing.assert_close(model.autoencoder.latent_scale, torch.full((4,), 0.18215))
    assert not model.autoencoder.latent_shift.any()
    images = torch.rand(1, 3, 32, 32)
    latents = model.autoencoder.encode(images).mode()
    torch.testing.assert_close(model.encode(images), 0.18215 * latents)


def test_masked_images_are_seen_through_the_one_first_stage(tmp_path: Path) -> None:
    model, report, _ = opened(tmp_path, "masked image")
    assert not model.conditioner.state_dict()
    value = [(torch.zeros(3, 32, 32), torch.ones(1, 32, 32))]
    seen = model.condition(masked_image=value).concat
    assert torch.equal(seen[:, :4], model.autoencoder.encode(torch.zeros(1, 3, 32, 32)).mode())
    assert "kept once" in str(report)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = MODELS["unconditional"]
    state = random_state(original_config(model))
    halves = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    loaded, _ = load_original(write_checkpoint(tmp_path / "half.ckpt", halves), model, weights="raw")
    assert isinstance(loaded, LatentDiffusion)
    for key, tensor in loaded.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, halves[f"model.diffusion_model.{key}"].float())


def test_float32_weights_are_not_copied(tmp_path: Path) -> None:
    """All parameters lie in the one mapping of the file."""
    model, *_ = opened(tmp_path, "caption")
    places = sorted(parameter.data_ptr() for module in model.modules for parameter in module.parameters())
    assert places[-1] - places[0] < (tmp_path / "model.ckpt").stat().st_size


OPTIONAL = {
    "tables": ("unconditional", "alphas posterior_ betas sqrt_ log_one"),
    "log-variance": ("learned log-variance", "logvar"),
    "loss": ("kl", "loss."),
    "output layer of a text model": ("caption", "cond_stage_model.transformer.to_logits"),
    "second first stage": ("masked image", "cond_stage_model."),
}


@pytest.mark.parametrize("part", OPTIONAL)
def test_what_a_model_does_without_may_be_absent_as_a_whole_only(part: str, tmp_path: Path) -> None:
    name, prefixes = OPTIONAL[part]
    model = (MODELS | FIRST_STAGES)[name]
    state = random_state(original_config(model))
    absent = [key for key in state if key.startswith(tuple(prefixes.split()))]
    assert absent
    _, report = load_original(write(tmp_path, model, **dict.fromkeys(absent)), model)
    assert report.tensors == len(state) - len(absent)
    if len(absent) > 1:
        with pytest.raises(UserError, match=f"1 missing \\({absent[0]}\\)"):
            load_original(write(tmp_path, model, **{absent[0]: None}), model)


def test_a_checkpoint_without_its_moving_average_opens_when_asked(tmp_path: Path) -> None:
    model = MODELS["class"]
    state = random_state(original_config(model))
    path = write(tmp_path, model, **{key: None for key in state if key.startswith("model_ema.")})
    with pytest.raises(UserError, match="holds no moving average"):
        load_original(path, model)
    loaded, _ = load_original(path, model, weights="raw")
    assert isinstance(loaded, LatentDiffusion)
    assert equal(loaded.network.state_dict(), state, "model.diffusion_model.")


def test_a_moving_average_that_the_configuration_does_not_know_is_taken(tmp_path: Path) -> None:
    """The case of Stable Diffusion's larger files."""
    model = MODELS["class"]
    state, path = random_state(original_config(model)), write(tmp_path, model)
    silent = {**model, "params": {**model["params"], "use_ema": False}}
    loaded, _ = load_original(path, silent)
    assert isinstance(loaded, LatentDiffusion)
    weight = loaded.network.time_embed[0].weight
    assert torch.equal(weight, state["model_ema.diffusion_modeltime_embed0weight"])


def test_a_text_encoder_is_left_out_and_reported(tmp_path: Path) -> None:
    model = MODELS["text"]
    extra = {f"cond_stage_model.transformer.text_model.{index}.weight": torch.ones(3) for index in range(5)}
    _, report = load_original(write(tmp_path, model, **extra), model)
    row = next(row for row in report.rows if row.group == "cond_stage_model.*")
    assert (row.tensors, row.numbers) == (5, 15)
    assert row.fate.startswith("left out")


def test_the_loss_of_a_first_stage_within_is_left_out_and_reported(tmp_path: Path) -> None:
    model = MODELS["unconditional"]
    _, report = load_original(write(tmp_path, model, **{"first_stage_model.loss.logvar": torch.ones(())}), model)
    assert [row.tensors for row in report.rows if row.group == "first_stage_model.loss.*"] == [1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.diffusion_model.out.2.bias": None}, r"1 missing \(model.diffusion_model.out.2.bias\)"),
        ({"model.diffusion_model.out.3.bias": torch.ones(4)}, r"1 unexpected \(model.diffusion_model.out.3.bias\)"),
        ({"model.diffusion_model.out.2.bias": torch.ones(5)}, r"1 of another shape \(.*out.2.bias \[5\] for \[4\]\)"),
        ({"betas": torch.linspace(1e-4, 2e-2, 100)}, "table 'betas' is not that of the noise schedule"),
        ({"posterior_mean_coef2": torch.zeros(100)}, "table 'posterior_mean_coef2'"),
        ({"scale_factor": torch.tensor(1.0)}, r"unexpected \(scale_factor\)"),
        ({"lvlb_weights": torch.ones(100)}, r"unexpected \(lvlb_weights\)"),
        ({"module.betas": torch.ones(100)}, r"unexpected \(module.betas\)"),
        ({"model_ema.num_updates": None}, r"missing \(model_ema.num_updates\)"),
    ],
)
def test_what_does_not_fit_is_listed_in_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_original(write(tmp_path, MODELS["unconditional"], **changes), MODELS["unconditional"])
    assert "\n" not in str(caught.value)


def test_a_list_of_what_does_not_fit_ends(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing") as caught:
        load_original(write(tmp_path, MODELS["unconditional"]), kl())
    assert len(str(caught.value)) < 2500


def test_a_second_first_stage_that_differs_is_refused(tmp_path: Path) -> None:
    key = "cond_stage_model.quant_conv.bias"
    changed = write(tmp_path, MODELS["masked image"], **{key: torch.ones(4)})
    with pytest.raises(UserError, match=f"{key} and first_stage_model.quant_conv.bias must be the same"):
        load_original(changed, MODELS["masked image"])


def test_the_report_is_a_table_of_everything(tmp_path: Path) -> None:
    _, report, state = opened(tmp_path, "caption")
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.rows) + 2
    assert sum(row.numbers for row in report.rows) == sum(tensor.numel() for tensor in state.values())
    assert "epoch 3, global_step 77, pytorch-lightning_version 1.4.2" in lines
    assert lines[-1].startswith("objects left out: ")
    assert "omegaconf.dictconfig.DictConfig" in lines[-1]


def test_a_bare_state_dict_opens_as_well(tmp_path: Path) -> None:
    state = random_state(original_config(FIRST_STAGES["kl"]))
    torch.save(copy.copy(state), tmp_path / "bare.pt")
    model, report = load_original(tmp_path / "bare.pt", FIRST_STAGES["kl"])
    assert isinstance(model, TrainedAutoencoder)
    assert equal(model.model.state_dict(), state, "")
    assert not report.facts
