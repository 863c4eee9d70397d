import numpy as np
import pytest

from calotype.data.loader import Loader
from calotype.data.pixel_format import PixelFormat
from calotype.data.transforms import Transform
from calotype.utils.errors import UserError

WIDER = PixelFormat(dtype="uint16", low=-100.0, high=70_000.0)


def test_images_are_mapped_as_the_model_maps_them(memory_set):
    images = memory_set(9, dtype="uint16")
    mapped = images.in_format(WIDER)
    assert images.in_format(images.pixel_format) is images
    assert mapped.pixel_format == WIDER
    assert mapped.fingerprint == images.fingerprint
    assert (len(mapped), mapped.source, mapped.records) == (9, images.source, images.records)
    assert np.array_equal(mapped.pixels(3), images.pixels(3))
    own, other = (Loader(each, Transform(size=8)).at([2, 4]).images for each in (images, mapped))
    np.testing.assert_allclose((own + 1) * 32767.5, (other + 1) * 35050 - 100, atol=0.01)


@pytest.mark.parametrize("other", [PixelFormat(), PixelFormat(channels=4, dtype="uint16", high=65535.0)])
def test_other_channels_or_depths_are_refused(memory_set, other):
    with pytest.raises(UserError, match="memory has 3 channels of uint16, but the model was trained on"):
        memory_set(9, dtype="uint16").in_format(other)


def test_values_beyond_the_range_are_not_clipped(memory_set):
    narrow = PixelFormat(dtype="uint16", high=1000.0)
    values = Loader(memory_set(9, dtype="uint16").in_format(narrow), Transform(size=8)).at([0]).images
    assert values.max() > 50


def test_what_the_files_are(make_folder, memory_set):
    from calotype.data.folder import scan_folder

    images = scan_folder(make_folder()).images
    info = images.info(4)
    assert (info.format, info.width) == ("PNG", 24)
    assert images.subset([4, 2]).info(0) == info
    assert images.in_format(PixelFormat(low=-1.0)).info(4) == info
    assert memory_set(8).info(0) is None
