import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_models import TOLERANCE, error, noise, varied
from torch import Tensor

from calotype.conditioner import ConditionerConfig, LabelEmbedderConfig, TextEmbedderConfig
from calotype.conditioner.embedders.pass_through import PassThroughConfig
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion import DDIM, solve
from calotype.diffusion.conditioning import Conditioning
from calotype.diffusion.schedule import Flow, NoiseSchedule, ScaledLinear
from calotype.interop.diffusers import export_diffusers, load_diffusers
from calotype.models.autoencoder import AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.models.unet import UNetConfig
from calotype.models.vq_model import VQModelConfig
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError
from calotype.utils.tensors import load_tensors, save_tensors

SIZE, STEPS = 16, 50
KL = AutoencoderKLConfig(
    channels=32, channel_multipliers=(1, 2), num_res_blocks=1, latent_channels=4, resolution=SIZE, attention="none"
)
VQ = VQModelConfig(
    channels=32,
    channel_multipliers=(1, 2),
    num_res_blocks=1,
    latent_channels=4,
    resolution=SIZE,
    attention="none",
    quantiser=VectorQuantizer2Config(codes=12, beta_on="codebook", index_shape="flat"),
)
TABLE = ScaledLinear(beta_start=0.0015, beta_end=0.0195)
PIXELS = IdentityAutoencoderConfig()
NETWORK = UNetConfig(in_channels=4, out_channels=4, channels=32, num_res_blocks=1, attention_factors=(2,))
TEXT = TextEmbedderConfig(vocabulary=("a", "red", "wave"), length=5, channels=16, layers=1, heads=2)


def model_of(
    autoencoder: Any,
    network: UNetConfig = NETWORK,
    *,
    schedule: NoiseSchedule = TABLE,
    scale: float | list[float] = 1.0,
    embedders: tuple[Any, ...] = (),
) -> LatentDiffusion:
    first = varied(autoencoder.build())
    scales = [scale] * first.latent_channels if isinstance(scale, float) else scale
    first.set_latent_statistics([0.0 if scales[0] == each else 0.4 for each in scales], scales)
    return LatentDiffusion(
        autoencoder=TrainedAutoencoder(first, PixelFormat(), SIZE),
        conditioner=varied(ConditionerConfig(embedders=embedders).build()),
        network=varied(network.build()),
        schedule=schedule,
        prediction="flow" if isinstance(schedule, Flow) else "eps",
    )


def drawn(model: LatentDiffusion, z: Tensor, steps: int, **fields: Any) -> Tensor:
    """What our deterministic solver makes of the noise ``z``."""
    spacing = "linspace" if isinstance(model.schedule, Flow) else "trailing"
    denoise = model.denoiser.bind(model.condition(len(z), **fields) if fields else Conditioning())
    with torch.no_grad():
        for state in solve(denoise, z, model.schedule.grid(steps, spacing), DDIM()):
            z = state.x
        return model.decode(z)


PIPELINES = {
    "LDMPipeline": model_of(VQ, scale=0.8),
    "LDMPipeline with a KL": model_of(KL, scale=[0.8, 1.5, 0.5, 1.0]),
    "DDIMPipeline": model_of(PIXELS, replace(NETWORK, in_channels=3, out_channels=3)),
    "DDPMPipeline": model_of(PIXELS, replace(NETWORK, in_channels=3, out_channels=3), schedule=Flow()),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_draws_the_same_images(name: str, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    model = PIPELINES[name]
    pipeline = DiffusionPipeline.from_pretrained(export_diffusers(model, tmp_path / "out"))
    assert type(pipeline).__name__ == name.split()[0]
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        batch_size=2, generator=torch.Generator().manual_seed(0), num_inference_steps=10, output_type="np"
    )
    found = torch.from_numpy(images.images).permute(0, 3, 1, 2)
    wanted = drawn(model, noise(2, *model.latent_shape()), 10)
    assert wanted.std() > 0.01
    assert error(found * 2 - 1, wanted) < TOLERANCE


def test_super_resolution_is_a_pipeline(tmp_path: Path) -> None:
    # not exported without transformers, though it needs nothing of it
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion_superresolution import (
        LDMSuperResolutionPipeline,
    )

    vq = replace(VQ, latent_channels=3)
    low = PassThroughConfig(field="low_resolution", slot="concat", channels=3, null="none")
    model = model_of(vq, replace(NETWORK, in_channels=6, out_channels=3), embedders=(low,))
    folder = export_diffusers(model, tmp_path / "out")
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "LDMSuperResolutionPipeline"
    pipeline = LDMSuperResolutionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    given, generator = noise(1, 3, 8, 8).clamp(-1, 1), torch.Generator().manual_seed(0)
    images = pipeline(given, num_inference_steps=10, generator=generator, output_type="np").images
    wanted = drawn(model, noise(1, 3, 8, 8), 10, low_resolution=[given[0]])
    assert error(torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1, wanted) < TOLERANCE


PARTS = {
    "captions": (
        model_of(
            KL,
            replace(NETWORK, transformer_depth=1, context_channels=16, vector_channels=16, scale_shift_norm=True),
            schedule=Flow(),
            scale=[0.8, 1.5, 0.5, 1.0],
            embedders=(TEXT,),
        ),
        {"caption": ["a red wave"]},
    ),
    "classes": (
        model_of(KL, replace(NETWORK, num_classes=3), embedders=(LabelEmbedderConfig(classes=("b", "c")),)),
        {"class": ["c"]},
    ),
    "a concatenated image": (
        model_of(
            VQ,
            replace(NETWORK, in_channels=9),
            scale=0.5,
            embedders=(PassThroughConfig(field="masked_image", slot="concat", channels=5),),
        ),
        {"masked_image": [noise(5, 8, 8)]},
    ),
    "a codebook with statistics per channel": (model_of(VQ, scale=[0.8, 1.5, 0.5, 1.0]), {}),
    "pixels with a scale": (model_of(PIXELS, replace(NETWORK, in_channels=3, out_channels=3), scale=2.0), {}),
    "a transformer without context": (model_of(KL, replace(NETWORK, transformer_depth=1)), {}),
    "a flow of latents": (model_of(VQ, schedule=Flow()), {}),
}


@pytest.mark.parametrize("name", PARTS)
def test_without_a_pipeline_the_readme_draws_the_same_images(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, fields = PARTS[name]
    folder = export_diffusers(model, tmp_path / "out")
    assert not (folder / "model_index.json").exists()
    assert len(lines := [record for record in caplog.records if record.name == "calotype"]) == 1
    assert "no pipeline" in lines[0].getMessage()
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    run: dict[str, Any] = dict(model.condition(1, **fields).slots()) if fields else {}
    z = noise(1, *model.latent_shape())
    monkeypatch.setattr(torch, "randn", lambda *shape: z.view(shape))
    exec(code, run)
    wanted = drawn(model, z, STEPS, **fields)
    assert wanted.std() > 0.01
    assert error(run["images"], wanted) < TOLERANCE


def test_the_readme_of_a_pipeline_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export_diffusers(PIPELINES["LDMPipeline"], tmp_path / "out")
    monkeypatch.chdir(folder)
    run: dict[str, Any] = {}
    exec((folder / "README.md").read_text().split("```python\n")[1].split("```")[0], run)
    assert [image.size for image in run["images"]] == [(SIZE, SIZE)]


def weights(model: Any) -> dict[str, Tensor]:
    return {f"{n}.{key}": value for n, part in enumerate(model.modules) for key, value in part.state_dict().items()}


@pytest.mark.parametrize("name", ["LDMPipeline", "DDPMPipeline"])
def test_what_was_exported_loads_as_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = PIPELINES[name]
    monkeypatch.setitem(sys.modules, "diffusers", None)  # importing it would raise
    again = load_diffusers(export_diffusers(model, tmp_path / "out"))
    assert isinstance(again, LatentDiffusion)
    assert (again.schedule, again.prediction) == (model.schedule, model.prediction)
    assert again.first_stage.size == SIZE
    before, after = weights(model), weights(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(again.sample(seeds=[3], steps=2), model.sample(seeds=[3], steps=2))


def test_conditions_are_taken_as_they_are(tmp_path: Path) -> None:
    model, fields = PARTS["captions"]
    again = load_diffusers(export_diffusers(model, tmp_path / "out"))
    assert isinstance(again, LatentDiffusion)
    assert again.conditioner.fields == ("text_embedding", "vector")
    slots, z = model.condition(1, **fields), noise(1, *model.latent_shape())
    whole = torch.ones_like(slots.context_mask)
    with torch.no_grad():
        wanted = model.network(z, torch.tensor([5.0]), context=slots.context, context_mask=whole, vector=slots.vector)
        given = again.condition(text_embedding=list(slots.context), vector=list(slots.vector))
        assert error(again.network(z, torch.tensor([5.0]), **given.slots()), wanted) < TOLERANCE
    assert error(again.decode(z), model.decode(z)) < TOLERANCE


def test_classes_keep_their_numbers(tmp_path: Path) -> None:
    model, fields = PARTS["classes"]
    again = load_diffusers(export_diffusers(model, tmp_path / "out"))
    assert isinstance(again, LatentDiffusion)
    assert torch.equal(again.sample(seeds=[0], steps=2, **{"class": ["1"]}), model.sample(seeds=[0], steps=2, **fields))


def test_other_images_are_concatenated(tmp_path: Path) -> None:
    model, fields = PARTS["a concatenated image"]
    again = load_diffusers(export_diffusers(model, tmp_path / "out"))
    assert isinstance(again, LatentDiffusion)
    z = noise(1, *model.latent_shape())
    found = drawn(again, z, 4, concat=fields["masked_image"])
    assert error(found, drawn(model, z, 4, **fields)) < TOLERANCE


@pytest.mark.parametrize("config", [KL, VQ])
def test_an_autoencoder_is_a_folder_of_its_own(config: Any, tmp_path: Path) -> None:
    import diffusers

    model = TrainedAutoencoder(varied(config.build()), PixelFormat(), SIZE)
    folder = export_diffusers(model, tmp_path / "out")
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    theirs, images = getattr(diffusers, name).from_pretrained(folder), noise(1, 3, SIZE, SIZE)
    again = load_diffusers(folder)
    assert isinstance(again, TrainedAutoencoder)
    assert (again.size, again.pixel_format) == (SIZE, PixelFormat())
    assert torch.equal(again.reconstruct(images), model.reconstruct(images))
    with torch.no_grad():
        assert error(theirs(images).sample.clamp(-1, 1), model.reconstruct(images)) < TOLERANCE


def test_what_diffusers_saves_is_opened(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL, DDPMScheduler, LDMPipeline, UNet2DModel

    blocks = {"block_out_channels": [32, 64], "layers_per_block": 1}
    types = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = varied(AutoencoderKL(**blocks, **types, latent_channels=4, sample_size=16))
    types = {"down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}
    unet = varied(UNet2DModel(**blocks, **types, in_channels=4, out_channels=4, sample_size=8))
    LDMPipeline(vqvae=vae, unet=unet, scheduler=DDPMScheduler(timestep_spacing="trailing")).save_pretrained(tmp_path)
    model = load_diffusers(tmp_path)
    assert isinstance(model, LatentDiffusion)
    assert model.first_stage.size == 16
    z = noise(1, 4, 8, 8)
    with torch.no_grad():
        assert error(model.network(z, torch.tensor([9.0])), unet(z, 9).sample) < TOLERANCE
        assert (
            error(model.autoencoder.decode(model.autoencoder.denormalise(z)), vae.decode(z / 0.18215).sample)
            < TOLERANCE
        )


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        export_diffusers(PIPELINES["LDMPipeline"], tmp_path)
    with pytest.raises(UserError, match="space_to_depth"):
        export_diffusers(
            TrainedAutoencoder(replace(KL, space_to_depth=2).build(), PixelFormat(), SIZE), tmp_path / "out"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = export_diffusers(PIPELINES["LDMPipeline"], tmp_path / "out")

    def change(path: str, **values: Any) -> None:
        data = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(data | values))

    with pytest.raises(UserError, match="no model of diffusers"):
        load_diffusers(tmp_path)
    change("unet/config.json", norm_num_groups=16)
    with pytest.raises(UserError, match="norm_num_groups 16"):
        load_diffusers(folder)
    change("unet/config.json", norm_num_groups=32, sample_size=[4, 8])
    assert load_diffusers(folder).first_stage.size == SIZE
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="unet has no diffusion_pytorch_model"):
        load_diffusers(folder)
    (tmp_path / "config.json").write_text('{"format": "calotype"}')
    with pytest.raises(UserError, match="names no class"):
        load_diffusers(tmp_path)


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    folder = export_diffusers(TrainedAutoencoder(varied(KL.build()), PixelFormat(), SIZE), tmp_path / "out")
    file = folder / "diffusion_pytorch_model.safetensors"
    save_tensors(file, {key: value for key, value in load_tensors(file).items() if "post_quant_conv" not in key})
    with pytest.raises(UserError, match=r"missing \['post_quant_conv"):
        load_diffusers(folder)
