"""``calotype data check``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    size: str | None = None,
    strict: bool = False,
) -> None:
    """Say what a folder of images holds, what is left out and why, and what training on it will cost.

    Every file is really decoded: a file that is named here as broken would have failed in training.

    Args:
        folder: The folder; sub-folders are classes, NAME.txt or metadata.jsonl are captions.
        size: What to train at, 64 or (width x height) 96x64, for the estimate of memory and time.
        strict: End with an error at the first file or row that cannot be used.
    """
    from calotype.data.check import check_folder
    from calotype.utils.progress import progress
    from calotype.utils.size import parse_size

    wanted = None if size is None else parse_size(size)
    with progress("reading", 0) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.advance(done - bar.done)

        report = check_folder(folder, wanted, show, strict=strict)
    print("\n".join(report.lines()))
