"""The only (de)serialiser of configurations: frozen dataclasses to plain JSON data and back."""

from collections.abc import Mapping
from typing import Any, ClassVar

from calotype.utils.errors import UserError


class Config:
    """Base of every configuration dataclass: plain data, frozen, keyword-only; unknown keys are errors.

    Subclasses are ``@dataclass(frozen=True, kw_only=True)``, check themselves in ``__post_init__`` (``ValueError`` that
    names the field) and, where they describe an object, make it with ``build()``. Variants of a choice carry
    ``kind: Literal["name"] = "name"``, which decides what ``from_dict`` makes of ``A | B``; the error for a wrong field
    is about the right variant alone where the union is ``Annotated[A | B, Field(discriminator="kind")]``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


def to_dict(config: Any) -> dict[str, Any]:
    """Return ``config`` as JSON-able data; ``from_dict(type(config), to_dict(config)) == config``."""
    from pydantic import TypeAdapter

    data: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return data


def from_dict(kind: Any, data: Mapping[str, Any], *, where: str = "config") -> Any:
    """Build a configuration of type (or tagged union) ``kind`` from plain data.

    Raises:
        UserError: one line that names the first field that does not fit and what was expected.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "value"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(f"{where}: {field}: {first['msg']}{more}") from None
