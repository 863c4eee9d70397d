"""``calotype presets``."""


def command() -> None:
    """List the presets: name, stage, what it is for, and the number it reproduces with its source."""
    from calotype.presets import preset_lines

    print("\n".join(preset_lines()))
