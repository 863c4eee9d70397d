"""Two small networks that say what is where in a scene: trained on real scenes, their mistakes on real ones stated."""

import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.data.scenes import CONCEPTS, LABELS, Scene
from calotype.utils.boxes import Box, LayoutObject

CROP, NOTHING = 32, len(CONCEPTS)


def as_images(scenes: Sequence[Scene]) -> Tensor:
    """Return (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_labels(scenes: Sequence[Scene]) -> Tensor:
    """Return (n, h, w)."""
    return torch.from_numpy(np.stack([scene.labels for scene in scenes]))


class Classifier:
    """Says which of the concepts, or nothing, fills a box."""

    def __init__(self, scenes: Sequence[Scene], seconds: float, device: torch.device) -> None:
        self.device = device
        torch.manual_seed(0)
        draws, images = random.Random(0), as_images(scenes)
        crops, targets = [], []
        for image, scene in zip(images, scenes, strict=True):
            for item in scene.objects:
                crops.append(crop(image, shaken(item.box, draws)))
                targets.append(CONCEPTS.index(str(item.label)))
            if (empty := empty_box(scene.objects, draws)) is not None:
                crops.append(crop(image, empty))
                targets.append(NOTHING)
        self.network = nn.Sequential(
            *_block(3, 32), *_block(32, 64), nn.MaxPool2d(2), *_block(64, 96), nn.MaxPool2d(2), *_block(96, 128),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, NOTHING + 1),
        ).to(device)  # fmt: skip
        inputs, labels = torch.stack(crops).to(device), torch.tensor(targets, device=device)
        self.steps = _train(self.network, lambda rows: (_noisy(inputs[rows]), labels[rows]), len(inputs), seconds)

    @torch.no_grad()
    def right(self, images: Tensor, layouts: Sequence[Sequence[LayoutObject]]) -> list[float]:
        """Return, for each image, the share of its boxes that hold what the layout says."""
        crops = [crop(image, item.box) for image, layout in zip(images, layouts, strict=True) for item in layout]
        parts = torch.stack(crops).split(512)
        found = torch.cat([self.network.eval()(part.to(self.device)).argmax(1).cpu() for part in parts]).tolist()
        shares = []
        for layout in layouts:
            own, found = found[: len(layout)], found[len(layout) :]
            hits = [number == CONCEPTS.index(str(item.label)) for number, item in zip(own, layout, strict=True)]
            shares.append(sum(hits) / len(hits))
        return shares


class Segmenter:
    """Says what each pixel is of; convolutional, for any size that is a multiple of 8."""

    def __init__(self, scenes: Sequence[Scene], seconds: float, device: torch.device) -> None:
        self.device = device
        torch.manual_seed(0)
        self.network = _UNet(len(LABELS)).to(device)
        images, labels = as_images(scenes).to(device), as_labels(scenes).to(device)
        self.steps = _train(self.network, lambda rows: (_noisy(images[rows]), labels[rows]), len(images), seconds)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return labels (n, h, w)."""
        parts = images.split(64)
        return torch.cat([self.network.eval()(part.to(self.device)).argmax(1).cpu() for part in parts])


def crop(image: Tensor, box: Box) -> Tensor:
    """Return what is in a box, 32 x 32."""
    height, width = image.shape[1:]
    left, top = (min(int(edge * side), side - 1) for edge, side in ((box.x, width), (box.y, height)))
    right, bottom = (
        max(left + 1, round((box.x + box.width) * width)),
        max(top + 1, round((box.y + box.height) * height)),
    )
    part = image[:, max(top, 0) : bottom, max(left, 0) : right]
    return F.interpolate(part[None], (CROP, CROP), mode="bilinear", align_corners=False)[0]


def shaken(box: Box, draws: random.Random) -> Box:
    """Return a box that is a little off."""
    x, y, width, height = box
    moved = [edge + 0.1 * side * draws.uniform(-1, 1) for edge, side in ((x, width), (y, height))]
    scaled = [side * draws.uniform(0.9, 1.1) for side in (width, height)]
    return Box(*(max(0.0, edge) for edge in moved), *scaled)


def empty_box(objects: Sequence[LayoutObject], draws: random.Random) -> Box | None:
    """Return a box of an object's size with hardly anything of an object in it, if one is found."""
    for _ in range(20):
        width, height = draws.uniform(0.2, 0.5), draws.uniform(0.2, 0.5)
        box = Box(draws.uniform(0, 1 - width), draws.uniform(0, 1 - height), width, height)
        if all(box.shared(item.box) < 0.1 * min(width * height, item.box.width * item.box.height) for item in objects):
            return box
    return None


def found_box(labels: Tensor, name: str) -> Box | None:
    """Return the box around nearly all pixels (2 % off each end) of a class, None where there are hardly any."""
    rows, columns = torch.nonzero(labels == LABELS.index(name), as_tuple=True)
    if len(rows) < 10:
        return None
    height, width = labels.shape
    low, high = (torch.stack([columns, rows]).float().quantile(share, dim=1) for share in (0.02, 0.98))
    left, top, right, bottom = float(low[0]), float(low[1]), float(high[0]) + 1, float(high[1]) + 1
    return Box(left / width, top / height, (right - left) / width, (bottom - top) / height)


def overlap(one: Box, other: Box | None) -> float:
    """Return the intersection over the union."""
    if other is None:
        return 0.0
    shared = one.shared(other)
    return shared / (one.width * one.height + other.width * other.height - shared)


def _noisy(images: Tensor) -> Tensor:
    """Return images with noise, so that a judge does not rely on what a decoder loses."""
    return images + 0.05 * torch.randn_like(images)


def _train(
    network: nn.Module, batch: Callable[[Tensor], tuple[Tensor, Tensor]], count: int, seconds: float, size: int = 64
) -> int:
    """Train for so many seconds, the learning rate falling to nothing; return the steps."""
    optimiser, began, steps = torch.optim.AdamW(network.parameters(), 2e-3), time.monotonic(), 0
    while (spent := (time.monotonic() - began) / seconds) < 1:
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - spent)
        images, targets = batch(torch.randint(count, (size,)))
        loss = F.cross_entropy(network(images), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
    return steps


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()


class _UNet(nn.Module):
    def __init__(self, classes: int, widths: Sequence[int] = (24, 48, 96, 128)) -> None:
        super().__init__()
        inputs = (3, *widths)
        self.down = nn.ModuleList(
            nn.Sequential(*_block(a, b), *_block(b, b)) for a, b in zip(inputs, widths, strict=False)
        )
        pairs = list(zip(widths[1:], widths, strict=False))
        self.up = nn.ModuleList(nn.Sequential(*_block(a + b, b)) for a, b in reversed(pairs))
        self.out = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], dim=1))
        return self.out(x)
