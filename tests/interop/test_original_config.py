import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import FIRST_STAGES, MODELS
from synthetic import manifests

from calotype.diffusion.log_variance import LogVarianceConfig
from calotype.diffusion.schedule import Cosine, Linear, ScaledLinear, Sqrt
from calotype.interop.original import OriginalConfig, OriginalDiffusion, original_config
from calotype.interop.original.networks import unet_config
from calotype.interop.original.write_config import yaml_data
from calotype.models.autoencoder import AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.vq_model import VQModelConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError


def diffusion_of(name: str) -> OriginalDiffusion:
    diffusion = original_config(manifests()[name]).diffusion
    assert diffusion is not None
    return diffusion


def changed(model: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a configuration with the value at ``params.path`` replaced."""
    result = copy.deepcopy(model)
    node = result["params"]
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    return result


@pytest.mark.parametrize("name", manifests())
def test_a_released_configuration_survives_our_json_and_the_originals_yaml(name: str) -> None:
    config = original_config(manifests()[name])
    assert from_dict(OriginalConfig, to_dict(config)) == config
    assert original_config(yaml.safe_load(yaml.safe_dump(yaml_data(config)))) == config


@pytest.mark.parametrize("name", [*MODELS, *FIRST_STAGES])
def test_a_small_configuration_survives_the_originals_yaml(name: str) -> None:
    config = original_config((MODELS | FIRST_STAGES)[name])
    assert original_config(yaml_data(config)) == config


def test_a_file_says_what_its_contents_say(tmp_path: Path) -> None:
    recorded = manifests()["ldm/celeba256"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model": recorded["model"], "data": {"target": "os.system"}, "lightning": 3}))
    config = original_config(recorded)
    assert original_config(path) == original_config(str(path)) == original_config(recorded["model"]) == config
    assert original_config(config) is config


def test_what_a_diffusion_configuration_says() -> None:
    churches, large = diffusion_of("ldm/lsun_churches256"), diffusion_of("latent-diffusion/txt2img-1p4B-eval")
    assert churches.schedule == ScaledLinear(beta_start=0.0015, beta_end=0.0155, timesteps=1000)
    assert (churches.scale_factor, churches.ema, churches.objective.loss.kind) == (None, True, "l1")
    assert (large.scale_factor, large.ema, large.objective.loss.kind) == (0.18215, False, "l2")
    assert original_config(manifests()["ldm/semantic_synthesis512"]).size == 512
    assert original_config(manifests()["retrieval-augmented-diffusion/768x768"]).size == 768


@pytest.mark.parametrize(
    ("name", "kind", "field", "null"),
    [
        ("latent-diffusion/cin256-v2", "class_token", "class", 1000),
        ("ldm/cin256", "class_token", "class", None),
        ("ldm/text2img256", "bert", "caption", "empty"),
        ("ldm/layout2img-openimages256", "bert", "layout", "empty"),
        ("ldm/semantic_synthesis256", "spatial_rescaler", "segmentation", "none"),
        ("ldm/bsr_sr", "pass_through", "low_resolution", "none"),
        ("ldm/inpainting_big", "encoded_image", "masked_image", "none"),
        ("retrieval-augmented-diffusion/768x768", "pass_through", "neighbours", "zeros"),
        ("stable-diffusion/configs/stable-diffusion/v1-inference", "pass_through", "text_embedding", "none"),
    ],
)
def test_what_a_model_is_conditioned_on(name: str, kind: str, field: str, null: Any) -> None:
    (embedder,) = diffusion_of(name).conditioner.embedders
    found = embedder.null_class if embedder.kind == "class_token" else embedder.null  # type: ignore[union-attr]
    assert (embedder.kind, embedder.field, found) == (kind, field, null)


def test_first_stages_and_their_losses() -> None:
    kl, vq = (original_config(manifests()[f"first_stage_models/{name}"]) for name in ("kl-f8", "vq-f16"))
    assert isinstance(kl.autoencoder, AutoencoderKLConfig)
    assert isinstance(vq.autoencoder, VQModelConfig)
    assert kl.loss is not None
    assert vq.loss is not None
    assert (kl.loss.kind, kl.loss.disc_weight, kl.loss.disc_start) == ("lpips_with_discriminator", 0.5, 50001)
    assert (vq.loss.kind, vq.loss.discriminator.num_layers) == ("vq_lpips_with_discriminator", 2)
    assert kl.learning_rate == 4.5e-6


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (
            "beta_schedule",
            "sqrt_linear",
            lambda it: it.schedule == Linear(beta_start=0.0015, beta_end=0.0195, timesteps=100),
        ),
        ("beta_schedule", "sqrt", lambda it: isinstance(it.schedule, Sqrt)),
        ("beta_schedule", "cosine", lambda it: it.schedule == Cosine(timesteps=100)),
        ("parameterization", "x0", lambda it: it.objective.prediction == "x0"),
        ("v_posterior", 0.5, lambda it: it.objective.v_posterior == 0.5),
        ("original_elbo_weight", 0.1, lambda it: it.objective.elbo_weight == 0.1),
        ("learn_logvar", True, lambda it: it.objective.log_variance == LogVarianceConfig()),
        ("linear_start", "15e-4", lambda it: it.schedule.beta_start == 0.0015),
        ("use_ema", False, lambda it: not it.ema),
        ("scale_by_std", True, lambda it: it.scale_factor is None),
        ("unet_config.params.legacy", False, lambda it: it.network.head_channels == 16),
        ("unet_config.params.use_checkpoint", True, lambda it: it.network.channels == 32),
        ("conditioning_key", None, lambda it: not it.conditioner.embedders),
        ("scheduler_config", {"target": "ldm.lr_scheduler.LambdaLinearScheduler", "params": {"f_min": [1.0]}}, None),
        (
            "first_stage_config",
            {"target": "ldm.models.autoencoder.IdentityFirstStage"},
            lambda it: it.scale_factor == 1,
        ),
    ],
)
def test_options_are_read(path: str, value: Any, found: Callable[[Any], bool] | None) -> None:
    model = MODELS["unconditional"]
    config = original_config(changed(model, path, value))
    assert found is None or found(config.diffusion)
    assert isinstance(config.autoencoder, IdentityAutoencoderConfig) == (path == "first_stage_config")


@pytest.mark.parametrize(
    ("heads", "found"),
    [
        ({"num_heads": 4}, (4, None, None)),
        ({"num_heads": 4, "num_heads_upsample": -1}, (4, None, None)),
        ({"num_heads": 4, "num_heads_upsample": 2}, (4, None, 2)),
        ({"num_heads": 4, "num_heads_upsample": 2, "legacy": False}, (4, None, None)),
        ({"num_heads": 4, "num_heads_upsample": 2, "num_head_channels": 16}, (None, 16, None)),
        ({"num_heads": -1, "num_head_channels": 16}, (None, 16, None)),
    ],
)
def test_heads_are_counted_as_the_original_does(heads: dict[str, Any], found: tuple[Any, ...]) -> None:
    arguments = MODELS["unconditional"]["params"]["unet_config"]["params"] | {"num_head_channels": -1} | heads
    network = unet_config(arguments)
    assert (network.heads, network.head_channels, network.heads_up) == found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("liner_start", 0.1, "LatentDiffusion has no parameter 'liner_start'. Did you mean 'linear_start'"),
        ("unet_config.params.depth", 2, "UNetModel has no parameter 'depth'"),
        ("first_stage_config.params.beta", 2, "VQModel has no parameter 'beta'"),
        ("first_stage_config.params.ddconfig.chs", 2, "VQModel's ddconfig has no parameter 'chs'"),
        ("first_stage_config.params.ddconfig.double_z", True, "double_z must be false, not True"),
        ("first_stage_config.target", "os.system", "first_stage_config: the target 'os.system' is not among those"),
        ("unet_config.target", "ldm.modules.diffusionmodules.model.Model", "unet_config: the target"),
        ("cond_stage_config", {"target": "builtins.eval", "params": {"source": "1"}}, "cond_stage_config: the target"),
        ("cond_stage_config", "__is_something__", "cond_stage_config must have a target, not '__is_something__'"),
        ("scheduler_config", {"target": "subprocess.run"}, "scheduler_config: the target 'subprocess.run'"),
        ("first_stage_config.params.lossconfig", {"target": "os.system"}, "lossconfig: the target 'os.system'"),
        ("unet_config", None, "unet_config must have a target, not None"),
        ("unet_config.extra", 1, "unet_config has an unknown entry 'extra'"),
        ("unet_config.params", [1], "UNetModel: its params must be named values"),
        ("unet_config.params.model_channels", 10**9, "model_channels must be a whole number up to 1,048,576"),
        ("unet_config.params.num_res_blocks", 10**6, "num_res_blocks must be a whole number up to 256"),
        ("unet_config.params.model_channels", "${oc.env:HOME}", "model_channels must be a whole number"),
        ("unet_config.params.channel_mult", [1] * 17, "channel_mult must be at most 16 whole numbers"),
        ("unet_config.params.channel_mult", [2, 2], "channel_multipliers must start with 1"),
        ("unet_config.params.n_embed", 5, "n_embed is read only as None, not 5"),
        ("unet_config.params.dropout", float("nan"), "dropout must be a number, not nan"),
        ("unet_config.params.use_scale_shift_norm", "yes", "use_scale_shift_norm must be true or false, not 'yes'"),
        ("timesteps", True, "timesteps must be a whole number"),
        ("timesteps", 1, "timesteps must be at least 2"),
        ("linear_end", "much", "linear_end must be a number, not 'much'"),
        ("beta_schedule", "sigmoid", "beta_schedule must be one of linear, sqrt_linear, sqrt, cosine, not 'sigmoid'"),
        ("parameterization", "v", "parameterization must be one of eps, x0, not 'v'"),
        ("channels", 3, "channels must be the first stage's 4, not 3"),
        ("given_betas", [0.1], "given_betas is read only as None"),
        ("conditioning_key", "hybrid", "conditioning_key must be concat or crossattn, not 'hybrid'"),
        ("first_stage_config.params.remap", "x.npy", "remap is read only as None, not 'x.npy'"),
    ],
)
def test_what_is_unknown_is_named_in_one_line(path: str, value: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        original_config(changed(MODELS["unconditional"], path, value))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        (
            "class",
            "cond_stage_config.params.embed_dim",
            25,
            "gives context of 25 channels, but the network takes context of 24",
        ),
        (
            "masked image",
            "unet_config.params.in_channels",
            8,
            "gives concat of 5 channels, but the network takes concat of 4",
        ),
        (
            "segmentation",
            "conditioning_key",
            "crossattn",
            "gives concat of 3 channels, but the network takes context of 0",
        ),
        (
            "caption",
            "cond_stage_config.params.n_layers",
            3,
            "BERTEmbedder has no parameter 'n_layers'. Did you mean 'n_layer'",
        ),
    ],
)
def test_a_condition_must_fit_the_network(name: str, path: str, value: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        original_config(changed(MODELS[name], path, value))
    assert said in str(caught.value)


HOSTILE = {
    "an object": "model: !!python/object/apply:os.system ['touch CANARY']",
    "a module": "model: !!python/module:antigravity",
    "a name": "model: !!python/name:os.system",
    "a target": "model: {target: os.system, params: {command: 'touch CANARY'}}",
    "a target with dots": "model: {target: builtins.__import__, params: {name: antigravity}}",
    "aliases": "a: &a [1, 2]\nmodel: *a",
    "an alias bomb": "a: &a [x]\n"
    + "\n".join(f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "merged keys": "a: &a {x: 1}\nmodel: {<<: *a}",
    "an endless loop": "model: &a [*a]",
    "depth": "model: " + "[" * 20_000 + "]" * 20_000,
    "depth of mappings": "model: " + "{a: " * 10_000 + "}" * 10_000,
    "depth of lines": "".join(f"{' ' * depth}a:\n" for depth in range(400)),
    "size": "model: " + "x" * 200_000,
    "a large number": "model: {target: ldm.models.autoencoder.AutoencoderKL, params: {embed_dim: " + "9" * 6000 + "}}",
    "no mapping": "- model",
    "nothing": "",
    "no text": "\x80\x81\xff",
    "a zero byte": "model: \0",
    "no YAML": "model: {",
    "another document": "model: 1\n---\nmodel: 2",
    "strange keys": "model: {[1, 2]: 3}",
}


ALIASES = ("aliases", "an alias bomb", "merged keys", "an endless loop")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once_in_one_line(name: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "config.yaml"
    path.write_bytes(HOSTILE[name].replace("CANARY", str(canary)).encode("latin-1"))
    modules, start = set(sys.modules), time.perf_counter()
    with pytest.raises(UserError) as caught:
        original_config(path)
    assert time.perf_counter() - start < 5  # on a busy machine
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert ("it uses aliases" in str(caught.value)) == (name in ALIASES)
    assert not canary.exists()
    assert "antigravity" not in set(sys.modules) - modules


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml cannot be read: No such file"):
        original_config(tmp_path / "absent.yaml")
