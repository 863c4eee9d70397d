import re
from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.conditioner import (
    BERTEmbedderConfig,
    ClassEmbedderConfig,
    ConditionerConfig,
    SpatialRescalerConfig,
    TokenIdsConfig,
)
from kinds import kind


@kind("cond_classembedder")
def class_embedder(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    embedder = ClassEmbedderConfig(classes=config.get("n_classes", 1000), channels=config["embed_dim"])
    return _embedded(embedder, golden.state, golden.inputs["labels"])


@kind("cond_transformerembedder")
@kind("cond_bertembedder")
def transformer_embedder(golden: Golden) -> dict[str, Tensor]:
    """The reference's state has ``to_logits``, which are never applied: the import leaves them out, and so do we."""
    config = golden.config
    embedder = BERTEmbedderConfig(
        vocabulary_size=config.get("vocab_size", 30_522),
        length=config.get("max_seq_len", 77),
        channels=config["n_embed"],
        layers=config["n_layer"],
        embedding_dropout=config.get("embedding_dropout", 0.0),
        tokens=TokenIdsConfig(),
        null="none",
    )
    state = {name: value for name, value in golden.state.items() if "to_logits" not in name}
    return _embedded(embedder, state, golden.inputs["tokens"])


def _embedded(config: Any, state: dict[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
    embedder = config.build().eval()
    embedder.load_state_dict(state)
    conditioner = ConditionerConfig(embedders=(config,)).build().eval()
    conditioner.embedders[config.field].load_state_dict(state)
    context = embedder(inputs).context
    values = inputs.tolist()
    if config.kind == "class_token" or len(values[0]) == config.length:
        assert torch.equal(conditioner.embed({config.field: values}, len(values), torch.device("cpu")).context, context)
    return {"y": context}


@kind("cond_spatialrescaler")
def spatial_rescaler(golden: Golden) -> dict[str, Tensor]:
    """Outputs are named by what made them: [mapped_]METHOD_STAGES_MULTIPLIER, METHOD with 3d or 5d by its input."""
    found = {}
    for name in golden.outputs:
        mapped, method, dims, stages, multiplier = re.fullmatch(
            r"(mapped_)?([a-z]+)(3d|5d)?_(\d+)_([\d.]+)", name
        ).groups()
        x, state = golden.inputs[f"x{dims or ''}"], golden.state if mapped else {}
        rescaler = SpatialRescalerConfig(
            in_channels=x.shape[1],
            stages=int(stages),
            method=method,
            multiplier=float(multiplier),
            out_channels=len(state["channel_mapper.weight"]) if mapped else None,
            bias="channel_mapper.bias" in state,
        ).build()
        rescaler.load_state_dict(state)
        found[name] = rescaler.rescale(x) if dims else rescaler(rescaler.prepare(list(x))).concat
    return found
