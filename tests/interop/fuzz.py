"""Reads many damaged copies of a good checkpoint: ``fuzz.py FOLDER COUNT``; any error but the user's ends it."""

import random
import resource
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from synthetic import write_checkpoint

from calotype.interop.original.reader import read_checkpoint
from calotype.utils.errors import UserError

MOST_GROWTH = 256 * 2**10


def write(form: str, path: Path) -> None:
    state = {f"layer.{index}.weight": torch.full((3, index + 1), float(index)) for index in range(4)}
    if form == "safetensors":
        save_file(state, path)
    elif form == "plain":
        torch.save(state, path)
    else:
        write_checkpoint(path, state, _use_new_zipfile_serialization=form == "lightning")


def mutate(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 2, 8, 32))):
        place = draw.randrange(len(changed))
        match draw.randrange(4):
            case 0:
                changed[place] = draw.randrange(256)
            case 1:
                changed[place] ^= 1 << draw.randrange(8)
            case 2:
                del changed[place : place + draw.randrange(1, 9)]
            case _:
                changed[place:place] = bytes(draw.choice((0, 255)) for _ in range(draw.randrange(1, 9)))
    return bytes(changed)


def read_mutated(form: str, path: Path, count: int) -> str:
    """Read ``count`` damaged copies and tell how many were refused and how much memory it took."""
    write(form, path)
    data, draw, refused = path.read_bytes(), random.Random(form), []
    read_checkpoint(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        path.write_bytes(mutate(data, draw))
        try:
            state = read_checkpoint(path).state
            sum(float(tensor.double().nan_to_num().sum()) for tensor in state.values())
        except UserError as error:
            refused.append(str(error))
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth < MOST_GROWTH, f"{growth} KiB"
    assert not [message for message in refused if "\n" in message]
    return f"{form}: {count} files, {len(refused)} refused, {growth} KiB more\n"


if __name__ == "__main__":
    for name in ("plain", "lightning", "before 1.6", "safetensors"):
        sys.stdout.write(read_mutated(name, Path(sys.argv[1]) / "model.ckpt", int(sys.argv[2])))
