"""The options of ``run`` and ``train`` that say what a model is to do, and of what."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from calotype.presets.tasks import Task


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What the model is to do.

    Args:
        task: generate images (of captions or classes, if there are any), inpaint, upscale, semantic (draw label maps),
            layout (draw boxes), variations (of an image), or retrieve (draw with the nearest images at hand).
        condition: Fields of the data that it is conditioned on, as caption,style,boxes: these instead of captions or
            classes, and besides what the task needs.
        text: How captions are read: words (an own small transformer over the words of the captions), bpe (over their
            byte pairs, as in the paper), minilm (a frozen encoder from a package), or another frozen encoder by its
            folder or as hub:OWNER/NAME.
        encoder: The frozen network that sees images for variations and retrieve: efficientnet-lite0, or a CLIP by its
            folder or as hub:OWNER/NAME.
        factor: How many times larger images become (upscale).
        degradation: What makes the small images (upscale): bicubic reduction, or a chain of blur, noise and JPEG,
            which takes longer to learn and also mends.
        box_tokens: Read boxes as discrete tokens, as in the paper, through a transformer (layout).
    """

    task: Literal["generate", "inpaint", "upscale", "semantic", "layout", "variations", "retrieve"] = "generate"
    condition: str | None = None
    text: str = "words"
    encoder: str = "efficientnet-lite0"
    factor: int = 4
    degradation: Literal["bicubic", "bsrgan", "bsrgan-light"] = "bicubic"
    box_tokens: bool = False

    def parse(self) -> "Task":
        """Return the task.

        Raises:
            UserError: an option does not fit.
        """
        from calotype.presets.tasks import Task
        from calotype.utils.errors import UserError

        names = tuple(name.strip() for name in (self.condition or "").split(",") if name.strip())
        if self.condition is not None and not names:
            raise UserError("--condition must name fields of the data, as caption,style")
        if not 2 <= self.factor <= 16:
            raise UserError(f"--factor must be between 2 and 16, not {self.factor}")
        return Task(
            name=self.task,
            conditions=names,
            text=self.text,
            encoder=self.encoder,
            factor=self.factor,
            degradation=self.degradation,
            box_tokens=self.box_tokens,
        )


_VERBS = {
    "masked_image": "inpaint {} photo.png --mask mask.png",
    "low_resolution": "upscale {} small.png",
    "segmentation": "semantic {} map.png",
    "boxes": "layout {} layout.json",
    "reference": "variations {} photo.png",
    "neighbours": "retrieve {} --image photo.png",
}


def draw_command(run: Path, fields: Sequence[str]) -> str:
    """Return what to type to draw with a model that is conditioned on ``fields``."""
    folder = shlex.quote(str(run))
    for name, usage in _VERBS.items():
        if name in fields:
            return f"calotype {usage.format(folder)}"
    asked = ' --caption "..."' if "caption" in fields else " --class ..." if "class" in fields else ""
    return f"calotype sample {folder}{asked} --seeds 0-15 --grid grid.png"
