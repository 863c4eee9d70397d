"""``calotype ema``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    *,
    width: float,
    out: Path,
    at: int | None = None,
) -> None:
    """Choose, after training, how long the average of a diffusion model's weights is.

    First train with snapshots: calotype train modern --ema-snapshots 12 --autoencoder runs/ae --data photos/ --out
    runs/ldm

    Then, as often as you like: calotype ema runs/ldm --width 0.08 --out runs/ldm-0.08, and sample and evaluate that. A
    narrow average (0.02) is nearest to the last weights, a wide one (0.20) is smoother; what is best depends on model,
    data and guidance. Training itself keeps one of 0.10.

    Args:
        run: A training run, or a chain, with snapshots.
        width: Standard deviation of the average over the run, as a share of its length: 0.01 to 0.25.
        out: The folder of the new model, which every verb takes.
        at: The model as it was after so many samples, the number of one of RUN/ema's files; by default the last.
    """
    from calotype.training.ema_snapshots import write_post_hoc_average

    write_post_hoc_average(run, out, width, seen=at)
    print(f"model: {out}")
