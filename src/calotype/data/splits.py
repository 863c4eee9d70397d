"""Which images are held out from training."""

from calotype.data.image_set import ImageSet
from calotype.utils.errors import UserError
from calotype.utils.seeds import seed_of


def split(
    images: ImageSet, fraction: float = 0.1, minimum: int = 8, maximum: int = 512, seed: int = 0
) -> tuple[ImageSet, ImageSet]:
    """Return (train, held_out), each in the order of ``images``, with whole groups on one side.

    Each group has a fixed place in [0, 1), the hash of (seed, name), and is held out where that lies below
    ``fraction``: what is added later moves nothing else. Where this would hold out fewer than ``minimum`` images (or
    than a quarter of a small set, if that is less) the next groups follow; beyond ``maximum`` (or half the set) none
    do. At the two bounds an added image can displace one other.

    Raises:
        UserError: the images form a single group, so that nothing can be held out.
    """
    groups: dict[str, list[int]] = {}
    for index, record in enumerate(images.records):
        groups.setdefault(record.group or record.name, []).append(index)
    places = sorted((seed_of(seed, "split", name) / 2**63, name) for name in groups)
    least = min(minimum, max(1, len(images) // 4))
    most = min(maximum, len(images) // 2)
    held_out: set[int] = set()
    for place, name in places:
        wanted = place < fraction or len(held_out) < least
        if wanted and len(held_out) + len(groups[name]) <= most:
            held_out.update(groups[name])
    if not held_out:
        raise UserError(f"{images.source}: no group of images is small enough to be held out for evaluation")
    train = [index for index in range(len(images)) if index not in held_out]
    return images.subset(train), images.subset(sorted(held_out))
