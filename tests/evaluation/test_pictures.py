import numpy as np
import torch

from calotype.evaluation.pictures import GAP, LINE, labelled_pairs


def pair(value: float, channels: int = 3, size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.full((channels, size, size), value)
    return image, image / 2


def test_originals_stand_above_reconstructions_with_their_labels() -> None:
    picture = labelled_pairs([pair(-1.0), pair(1.0), pair(0.5)], ["10 dB", "20 dB", "30 dB"], columns=2)
    block = 2 * 98 + 2 + LINE
    assert picture.shape == (2 * block + GAP, 2 * 98 + 2, 3)
    assert (picture[50, 50] == 0).all()
    assert (picture[98 + 50, 50] == round(0.5 * 127.5)).all()
    assert (picture[block + GAP + 50, 50] == round(1.5 * 127.5)).all()
    below = picture[2 * 98 + 2 : block]
    assert (below[:, :98] < 128).any()
    assert (below[:, 98:] < 128).any()
    assert (picture[block + GAP :, 100:] == 255).all()  # the place of a fourth pair


def test_small_images_are_enlarged_by_a_whole_number_and_channels_shown() -> None:
    assert labelled_pairs([pair(0.0, size=40)], ["x"], 8).shape[1] == 3 * 40 + 4
    for channels, shown in ((1, 1), (2, 1), (4, 3)):
        assert labelled_pairs([pair(0.0, channels)], ["x"], 8).shape[2] == shown
    assert labelled_pairs([pair(0.0)], ["x"], 8).dtype == np.uint8
