"""``calotype data check``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")], /, *, size: int | None = None
) -> None:
    """Say what a folder of images holds, what is left out and why, and what training on it will cost.

    Every file is really decoded: a file that is named here as broken would have failed in training.

    Args:
        folder: The folder; sub-folders are classes, NAME.txt or metadata.jsonl are captions.
        size: Pixels of the training squares, for the estimate of memory and time.
    """
    from calotype.cli.values import check_positive
    from calotype.data.check import check_folder
    from calotype.utils.progress import progress

    check_positive(size=size)
    with progress("reading", 0) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.advance(done - bar.done)

        report = check_folder(folder, size, show)
    print("\n".join(report.lines()))
