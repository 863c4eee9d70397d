"""``calotype presets``."""

from typing import Annotated

import tyro


def command(name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None, /) -> None:
    """List the presets: what can be trained, and the released models whose original weights can be opened.

    Args:
        name: Tell all about this one: its configuration, source, published numbers and usage.
    """
    from calotype.presets.listing import preset_details, preset_lines

    print("\n".join(preset_lines() if name is None else preset_details(name)))
