import torch
from golden_file import Golden
from torch import Tensor

from calotype.data.pixel_format import PixelFormat
from kinds import kind


@kind("image_to_uint8")
def image_to_uint8(golden: Golden) -> dict[str, Tensor]:
    pixels, _ = PixelFormat().to_file(golden.inputs["x"], rounding="down")
    return dict.fromkeys(("np_style", "pil_style"), torch.from_numpy(pixels).int())
