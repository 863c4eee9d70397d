"""What a model can be trained to do, and what it is conditioned on for that."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from calotype.conditioner import ConditionerConfig, FieldConfig
from calotype.data.degradations import DEGRADATIONS
from calotype.data.derived import DerivedFields, LowResolution, MaskedImage, Reference
from calotype.data.image_set import ImageSet
from calotype.encoders.image import EFFICIENTNET
from calotype.presets.conditioning import Setting, embedder_for, plain_conditions
from calotype.presets.text import WORDS
from calotype.utils.config import Config
from calotype.utils.errors import UserError

TaskName = Literal["generate", "inpaint", "upscale", "semantic", "layout", "variations", "retrieve"]


class Conditions(NamedTuple):
    """The embedders of a model, and how fields that come from the image itself are made in training."""

    conditioner: ConditionerConfig
    derived: tuple[DerivedFields, ...] = ()


class _Row(NamedTuple):
    summary: str
    fields: tuple[str, ...] = ()
    needs: str = ""
    plain: bool = False


TASKS: dict[TaskName, _Row] = {
    "generate": _Row("draw images: of captions or classes, where there are any", plain=True),
    "inpaint": _Row("fill in what a mask leaves open, or draw on beyond the borders", ("masked_image",), plain=True),
    "upscale": _Row("enlarge images, and mend what made them small", ("low_resolution",)),
    "semantic": _Row("draw images of label maps", ("segmentation",), 'rows with "segmentation_file_name"'),
    "layout": _Row("draw images of objects in boxes", ("boxes",), 'rows with "boxes"'),
    "variations": _Row("draw images that are like a given one", ("reference",)),
    "retrieve": _Row("draw images with their nearest neighbours at hand", ("neighbours",)),
}
"""Which fields each task adds, what the data must have for it, and whether captions or classes go with it."""
_MADE = ("masked_image", "low_resolution", "reference", "neighbours")


@dataclass(frozen=True, kw_only=True)
class Task(Config):
    """A task, with further ``conditions`` by the names of their fields.

    ``text`` says how captions are read (``presets/text.py:text_embedder``), ``encoder`` what frozen network sees images
    for variations and retrieval; ``factor`` and ``degradation`` are those of upscaling; ``box_tokens``: boxes are the
    paper's discrete tokens.
    """

    name: TaskName = "generate"
    conditions: tuple[str, ...] = ()
    text: str = WORDS
    encoder: str = EFFICIENTNET
    factor: int = 4
    degradation: Literal["bicubic", "bsrgan", "bsrgan-light"] = "bicubic"
    box_tokens: bool = False

    def fields(self, images: ImageSet) -> tuple[str, ...]:
        """Return the names of the fields that a model for ``images`` is conditioned on.

        Raises:
            UserError: the images lack one.
        """
        row = TASKS[self.name]
        plain = plain_conditions(images) if row.plain and not self.conditions else ()
        names = tuple(dict.fromkeys((*self.conditions, *plain, *row.fields)))
        for name in names:
            if name not in (*_MADE, *images.field_names):
                has = ", ".join(images.field_names) or "none"
                wanted = row.needs if name in row.fields else f"rows with {name!r}"
                raise UserError(f"{images.source} has no {name!r} (its fields: {has}): give metadata.jsonl {wanted}")
        return names

    def conditions_for(self, images: ImageSet, setting: Setting) -> Conditions:
        """Return what a model of this ``setting`` is conditioned on.

        Raises:
            UserError: the images lack a field that the task needs, or a field cannot condition a model.
        """
        names = self.fields(images)
        setting = replace(
            setting, text=self.text, encoder=self.encoder, upscaling=self.factor, box_tokens=self.box_tokens
        )
        embedders: tuple[FieldConfig, ...] = tuple(embedder_for(name, images, setting) for name in names)
        made = [name for name in names if name in _MADE and name not in images.field_names]
        derived = tuple(field for name in made if (field := self._derived(name)) is not None)
        return Conditions(ConditionerConfig(embedders=embedders), derived)

    def _derived(self, name: str) -> DerivedFields | None:
        """Return how a field is made of the image, None where it is kept elsewhere."""
        match name:
            case "masked_image":
                return MaskedImage()
            case "low_resolution":
                return LowResolution(factor=self.factor, degradation=DEGRADATIONS[self.degradation])
            case "reference":
                return Reference()
        return None
