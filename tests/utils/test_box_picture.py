import numpy as np

from calotype.utils.box_picture import draw_boxes, enlarged
from calotype.utils.boxes import Box, LayoutObject

WHITE = np.full((100, 200, 1), 255, np.uint8)


def test_frames_lie_where_the_boxes_are_one_colour_per_class() -> None:
    objects = [LayoutObject(name, Box(x, 0.25, 0.25, 0.5)) for name, x in (("a", 0.125), ("b", 0.5), ("a", 0.7))]
    shown = draw_boxes(WHITE, objects[:2])
    assert shown.shape == (200, 400, 3)
    assert shown[50, 149].tolist() == shown[149, 50].tolist() == shown[149, 149].tolist() != [255] * 3
    assert np.array_equal(shown[100, 149], shown[149, 149])
    assert shown[149, 299].tolist() not in ([255] * 3, shown[149, 149].tolist())
    assert (shown[100, 60:140] == 255).all()
    again = draw_boxes(WHITE, objects[::2])
    assert np.array_equal(again[149, 149], again[149, 379])
    assert np.array_equal(draw_boxes(WHITE, []), enlarged(WHITE.repeat(3, axis=2)))


def test_boxes_that_reach_over_the_border_are_drawn_as_far_as_they_show() -> None:
    for box in (Box(-0.5, -0.5, 3, 3), Box(0.9, 0.9, 0, 0), Box(0.95, 0.95, 0.2, 0.2)):
        assert (draw_boxes(WHITE, [LayoutObject("a very long name of a thing", box)]) < 255).any()


def test_small_pictures_are_enlarged_by_a_whole_number() -> None:
    small = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    large = enlarged(small)
    assert large.shape == (192, 288, 1)
    assert np.array_equal(large[::48, ::48], small)
    assert enlarged(np.zeros((200, 300, 3), np.uint8)).shape == (200, 300, 3)
