from random import Random

import torch
from golden_file import Golden
from torch import Tensor

from calotype.conditioner import Box, LayoutConfig, LayoutObject
from kinds import kind

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
FLAGS = {"group": "is_group_of", "occluded": "is_occluded", "depiction": "is_depiction", "inside": "is_inside"}


@kind("layout_bbox_tokens")
def layout_tokens(golden: Golden) -> dict[str, Tensor]:
    """``random.seed(1)`` comes before each build, so each shuffles with a generator of its own."""
    config, builder = golden.config, golden.config["builder"]
    flags = ("group",) * builder["use_group_parameter"]
    flags += ("occluded", "depiction", "inside") * builder["use_additional_parameters"]
    objects = [
        LayoutObject(
            annotation["category_no"],
            Box(*annotation["bbox"]),
            frozenset(flag for flag, name in FLAGS.items() if annotation.get(name)),
        )
        for annotation in config["annotations"]
    ]
    found = {}
    for name, position in {"bbox": "corners", "center": "centre"}.items():
        tokens = LayoutConfig(
            classes=builder["no_object_classes"],
            max_objects=builder["no_max_objects"],
            tokens=builder["no_tokens"],
            position=position,
            flags=flags,
            encode_crop=builder["encode_crop"],
            at_border="shift",
        ).build()
        crops = {
            "crop": (Box(*config["crop"]), False),
            "crop_flip": (Box(*config["crop"]), True),
            "full": (WHOLE, False),
        }
        for suffix, (crop, flip) in crops.items():
            found[f"{name}_{suffix}"] = torch.tensor(tokens.encode(objects, crop, flip, Random(1)))
    points = [tokens.token_of(*point) for point in config["points"]]
    found["tokens_of_points"] = torch.tensor(points)
    found["points_of_tokens"] = torch.tensor([tokens.point_of(token) for token in points])
    return found
