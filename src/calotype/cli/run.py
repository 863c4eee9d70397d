"""``calotype run``."""

from pathlib import Path
from typing import Annotated

import tyro

from calotype.cli.task_options import TaskOptions, draw_command


def command(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    /,
    *,
    out: Path,
    minutes: float = 10.0,
    size: str | None = None,
    seed: int = 0,
    device: str = "auto",
    from_scratch: bool = False,
    task: TaskOptions = TaskOptions(),
    strict: bool = False,
) -> None:
    """Take images through the whole chain: autoencoder, latents, diffusion model, samples, numbers, a report.

    It looks at the images (captions in side-car .txt files or a metadata.jsonl, classes as sub-folders, or nothing),
    at the machine and at the minutes, says what it picks and why, and trains. Stop it at any time with Ctrl-C; the
    same command goes on. At the end OUT/report.html shows everything.

    Args:
        source: A folder of images, or the embedded set: emoji, or one category such as emoji:faces.
        out: Where everything goes; a new folder, or that of a run to go on with.
        minutes: About how long the whole may take.
        size: Pixels to train at, 64 or (width x height) 96x64, multiples of 16; by default squares of the images' own
            size, as the machine allows.
        seed: Seed of everything that is random.
        device: Where to compute: auto, cpu, cuda, mps.
        from_scratch: Train the autoencoder from random weights, not from the general-purpose ones of the package.
        strict: End at the first file or row that cannot be used, rather than leave it out.
    """
    from calotype.artifact import read_artifact
    from calotype.chain.run import run_chain
    from calotype.cli.values import check_positive, check_seed
    from calotype.utils.distributed import is_main, process_group
    from calotype.utils.size import parse_size

    check_positive(minutes=minutes)
    check_seed(seed)
    wanted = None if size is None else parse_size(size)
    with process_group():
        report = run_chain(
            source,
            out,
            minutes=minutes,
            size=wanted,
            seed=seed,
            device=device,
            from_scratch=from_scratch,
            task=task.parse(),
            strict=strict,
        )
        if is_main():
            fields = [embedder["field"] for embedder in read_artifact(out).config["conditioner"]["embedders"]]
            print(f"samples: {out / 'samples.png'}")
            print(f"report: {report}")
            print(f"draw more: {draw_command(out, fields)}")
