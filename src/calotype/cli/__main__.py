"""``python -m calotype.cli``: the command line, for launchers such as torchrun."""

from calotype.cli import main

main()
