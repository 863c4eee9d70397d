from dataclasses import replace
from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.models.quantisers import GumbelQuantizeConfig, VectorQuantizer2Config
from kinds import kind
from kinds.networks import autoencoder_config


@kind("quantizer_vq2")
def vector_quantizer2(golden: Golden) -> dict[str, Tensor]:
    config, inputs = golden.config, golden.inputs
    quantizer = vector_quantizer2_config(config, golden.state.get("used")).build(config["e_dim"])
    quantizer.load_state_dict(golden.state)
    z = inputs["z"].clone().requires_grad_()
    quantised = quantizer(z)
    total = (quantised.z * inputs["w"]).sum() + quantised.loss
    grad_z, grad_embedding = torch.autograd.grad(total, [z, quantizer.embedding.weight])
    return {
        "quant": quantised.z,
        "loss": quantised.loss,
        "indices": quantised.indices,
        "grad_z": grad_z,
        "grad_embedding": grad_embedding,
        "entry": quantizer.get_codebook_entry(quantised.indices, image_shape(z)),
        "margin": margin(z, quantizer.embedding.weight),
    }


@kind("quantizer_gumbel")
def gumbel_quantize(golden: Golden) -> dict[str, Tensor]:
    config, z, noise = golden.config, golden.inputs["z"], golden.inputs["gumbel"]
    quantizer = GumbelQuantizeConfig(
        codes=config["n_embed"],
        kl_weight=config.get("kl_weight", 5e-4),
        temperature=config.get("temp_init", 1.0),
        straight_through=config.get("straight_through", True),
        remap=numbers(golden.state.get("used")),
    ).build(config["num_hiddens"], config["embedding_dim"])
    quantizer.load_state_dict(golden.state)
    trained, evaluated = quantizer.train()(z, noise), quantizer.eval()(z, noise)
    return {
        "logits": quantizer.logits(z),
        "quant_train": trained.z,
        "diff": evaluated.loss,
        "indices_train": trained.indices,
        "quant_eval": evaluated.z,
        "indices_eval": evaluated.indices,
        "entry": quantizer.get_codebook_entry(evaluated.indices),
    }


@kind("vqmodel")
def vq_model(golden: Golden) -> dict[str, Tensor]:
    config, x = golden.config, golden.inputs["x"]
    quantiser = {"beta": 0.25, "legacy": True} | config | {"n_e": config["n_embed"]}
    used = golden.state.get("quantize.used")
    shape = autoencoder_config(config)
    model = replace(shape, quantiser=vector_quantizer2_config(quantiser, used)).build().eval()
    model.load_state_dict(golden.state)

    latents = model.encode(x).mode()
    reconstruction, quantised = model(x)
    entry = model.quantize.get_codebook_entry(golden.inputs["code"], image_shape(latents))
    return {
        "prequant": latents,
        "quant": quantised.z,
        "codebook_loss": quantised.loss,
        "indices": quantised.indices,
        "reconstruction": reconstruction,
        "interface_h": latents,
        "interface_decode": model.decode(latents),
        "interface_decode_noquant": model.decode(latents, quantise=False),
        "code_entry": entry,
        "code_decoded": model.decode(entry, quantise=False),
        "margin": margin(latents, model.quantize.embedding.weight),
    }


def vector_quantizer2_config(config: dict[str, Any], used: Tensor | None) -> VectorQuantizer2Config:
    """Our configuration for the constructor arguments of the reference's VectorQuantizer2."""
    return VectorQuantizer2Config(
        codes=config["n_e"],
        beta=config["beta"],
        beta_on="codebook" if config.get("legacy", True) else "commitment",
        remap=numbers(used),
        unknown_index=config.get("unknown_index", "random"),
        index_shape="image" if config.get("sane_index_shape") else "flat",
    )


def numbers(used: Tensor | None) -> tuple[int, ...] | None:
    """The codes in use, as a configuration has them."""
    return None if used is None else tuple(used.tolist())


def image_shape(z: Tensor) -> tuple[int, int, int]:
    """Batch size, height and width."""
    return len(z), z.shape[2], z.shape[3]


def margin(z: Tensor, codes: Tensor) -> Tensor:
    """How much further the second-nearest code is than the nearest, in squared distance, for each position."""
    points = z.movedim(1, -1).flatten(0, -2).double()
    nearest = torch.cdist(points, codes.double()).square().topk(2, largest=False).values
    return nearest[:, 1] - nearest[:, 0]
