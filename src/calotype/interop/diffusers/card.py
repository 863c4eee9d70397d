"""The README.md of an exported folder: what it holds, and code that draws with it."""

from calotype import __version__
from calotype.conditioner import TextEmbedderConfig
from calotype.interop.diffusers.parts import Parts
from calotype.interop.diffusers.unet_layouts import UNET_CONDITION
from calotype.interop.latents import scaling_factor
from calotype.models.autoencoder import AutoencoderKL
from calotype.pipeline import LatentDiffusion

SLOTS = {
    "context": '"encoder_hidden_states": context',
    "context_mask": '"encoder_attention_mask": context_mask',
    "vector": '"class_labels": vector',
    "label": '"class_labels": label',
}


CARD = """# A latent diffusion model for diffusers

Written by calotype {version}.

| folder | class |
|---|---|
{rows}
{text}
```python
{code}
```
"""
PIPELINE = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(".")
images = pipeline({image}num_inference_steps={steps}).images"""
PARTS = """import torch
from diffusers import {classes}

{opened}
conditions = {{{conditions}}}
z = torch.randn{shape}
scheduler.set_timesteps({steps})
with torch.no_grad():
    for t in scheduler.timesteps:
        z = scheduler.step(unet({seen}, t, **conditions).sample, t, z).prev_sample
    images = {decoded}.clamp(-1, 1)"""


def card(model: LatentDiffusion, parts: Parts, steps: int) -> str:
    """Return the text; its code draws with ``steps`` steps."""
    rows = [f"| `{folder}` | {part.name} |" for folder, part in parts.folders.items()]
    code = _with_pipeline(parts, steps) if parts.pipeline else _with_parts(model, parts, steps)
    text = f"\nThere is no pipeline: {parts.lack}. In this folder the parts draw like this" if parts.lack else ""
    if slots := [f"`{slot}`" for slot in _slots(model) if parts.lack]:
        text += f", with {', '.join(slots)} as calotype's `model.condition(...)` makes them"
    return CARD.format(version=__version__, rows="\n".join(rows), text=f"{text}:\n" if text else "", code=code)


def _with_pipeline(parts: Parts, steps: int) -> str:
    return PIPELINE.format(image="image, " if parts.pipeline == "LDMSuperResolutionPipeline" else "", steps=steps)


def _with_parts(model: LatentDiffusion, parts: Parts, steps: int) -> str:
    slots = _slots(model)
    given = [SLOTS[slot] for slot in slots if slot in SLOTS]
    if parts.folders["unet"].name == UNET_CONDITION.name and "context" not in slots:
        given.append('"encoder_hidden_states": None')
    return PARTS.format(
        classes=", ".join(sorted({part.name for part in parts.folders.values()})),
        opened="\n".join(
            f'{folder} = {part.name}.from_pretrained(".", subfolder="{folder}")'
            for folder, part in parts.folders.items()
        ),
        conditions=", ".join(given),
        shape=(1, *model.latent_shape()),
        steps=steps,
        seen="torch.cat([z, concat], dim=1)" if "concat" in slots else "z",
        decoded=_decoded(model, parts),
    )


def _decoded(model: LatentDiffusion, parts: Parts) -> str:
    """The expression that makes images of the normalised latents ``z``."""
    autoencoder = model.autoencoder
    name = next((folder for folder in parts.folders if folder in ("vae", "vqvae")), None)
    scale, shift = autoencoder.latent_scale.tolist(), autoencoder.latent_shift.tolist()
    raw = f"z / torch.tensor({scale}).view(1, -1, 1, 1) + torch.tensor({shift}).view(1, -1, 1, 1)"
    if name is None:
        return f"({raw})"
    scaled = isinstance(autoencoder, AutoencoderKL) or scaling_factor(autoencoder) is not None
    return f"{name}.decode({f'z / {name}.config.scaling_factor' if scaled else raw}).sample"


def _slots(model: LatentDiffusion) -> list[str]:
    """The slots of a Conditioning that the network takes."""
    config = model.network.config
    filled = {
        "context": config.context_channels,
        "context_mask": any(isinstance(each, TextEmbedderConfig) for each in model.conditioner.config.embedders),
        "vector": config.vector_channels,
        "label": config.num_classes,
        "concat": config.in_channels - config.out_channels,
    }
    return [slot for slot, width in filled.items() if width]
