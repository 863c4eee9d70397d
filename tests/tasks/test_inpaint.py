import logging

import pytest
import torch
from torch import Tensor

import tiny
from calotype.conditioner import EncodedImageConfig
from calotype.diffusion import DDIM
from calotype.pipeline import LatentDiffusion
from calotype.tasks.img2img import img2img
from calotype.tasks.inpaint import inpaint, outpaint, paste
from calotype.utils.errors import UserError


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return tiny.conditioned_model(EncodedImageConfig(null="none"))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return tiny.loader().at(range(2)).images


def half_known(height: int = 16, width: int = 16) -> Tensor:
    known = torch.zeros(2, 1, height, width)
    known[:, :, :, : width // 2], known[1, :, : height // 2] = 1, 1
    return known


def test_what_is_known_stays_to_the_last_bit_and_what_is_not_depends_on_the_seed(model, images):
    known = half_known()
    first, second = (inpaint(model, images, known, seeds=seeds, steps=2) for seeds in ([1, 2], [3, 4]))
    where = known.expand_as(images) == 1
    assert torch.equal(first[where], images[where])
    assert torch.equal(second[where], images[where])
    assert (first - second)[~where].abs().mean() > 0.01


def test_the_hole_is_drawn_from_what_is_known_and_not_from_what_lies_under_it(model, images):
    known, options = half_known(), {"seeds": [1, 2], "steps": 2}
    first = inpaint(model, images, known, **options)
    under = inpaint(model, torch.where(known == 1, images, torch.rand_like(images)), known, **options)
    assert torch.equal(first, under)
    around = inpaint(model, torch.where(known == 1, -images, images), known, **options)
    hole = known.expand_as(images) == 0
    assert (first - around)[hole].abs().mean() > 0.01


@pytest.mark.parametrize("size", [(11, 14), (7, 50), (1, 2)])
def test_any_size_is_taken(model, size):
    images, known = torch.rand(2, 3, *size) * 2 - 1, half_known(*size)
    drawn = inpaint(model, images, known, seeds=[1, 2], steps=1)
    where = known.expand_as(images) == 1
    assert drawn.shape == images.shape
    assert torch.equal(drawn[where], images[where])
    assert drawn.isfinite().all()


def test_what_an_odd_size_lacks_is_drawn_at_the_right_and_the_bottom_and_cut_off(model):
    nothing, options = torch.zeros(2, 1, 11, 14), {"seeds": [1, 2], "steps": 1}
    whole = inpaint(model, torch.zeros(2, 3, 12, 16), torch.zeros(2, 1, 12, 16), **options)
    assert torch.equal(inpaint(model, torch.zeros(2, 3, 11, 14), nothing, **options), whole[:, :, :11, :14])


def test_images_beyond_the_size_of_training_are_drawn_in_windows(model):
    seen = set()
    hook = model.network.register_forward_pre_hook(lambda _, inputs: seen.add(tuple(inputs[0].shape[2:])))
    canvas, known = outpaint(torch.zeros(1, 3, 16, 16), right=20, bottom=3)
    drawn = inpaint(model, canvas, known, seeds=[1], steps=1)
    hook.remove()
    assert drawn.shape == (1, 3, 19, 36)
    assert seen == {(8, 8)}


def test_any_other_model_is_held_to_what_is_known_and_says_so(images, caplog):
    other, known, options = tiny.conditioned_model(), half_known(), {"seeds": [1, 2], "steps": 2, "solver": DDIM()}
    with caplog.at_level(logging.WARNING):
        drawn = inpaint(other, images, known, **options)
    assert [record.message for record in caplog.records] == [
        "this model was not trained to fill in (`calotype run --task inpaint` does): it makes do without"
    ]
    assert torch.equal(drawn, img2img(other, images, strength=1.0, known=known, **options))


def test_pasting_leaves_no_step_and_changes_nothing_far_away():
    """An autoencoder that is off by a constant."""
    image, known = torch.linspace(-0.5, 0.5, 60).expand(1, 3, 20, 60), torch.zeros(1, 1, 20, 60)
    known[..., :20] = 1
    drawn = image + 0.2
    pasted = paste(image, drawn, known, reach=3.0)
    slope = image[..., 1:] - image[..., :-1]
    assert torch.equal(pasted[..., :20], image[..., :20])
    assert torch.equal(pasted[..., 20 + 9 :], drawn[..., 20 + 9 :])
    assert ((pasted[..., 1:] - pasted[..., :-1]) - slope).abs().max() < 0.2 / 3
    torch.testing.assert_close(paste(image, drawn, torch.zeros_like(known), 3.0), drawn)
    assert torch.equal(paste(image, drawn, torch.ones_like(known), 3.0), image)


def test_a_canvas_grows_on_every_side():
    image = torch.rand(2, 3, 4, 5)
    canvas, known = outpaint(image, left=1, top=2, right=3, bottom=4)
    assert canvas.shape == (2, 3, 10, 9)
    assert torch.equal(canvas[:, :, 2:6, 1:6], image)
    assert known.shape == (2, 1, 10, 9)
    assert known.sum() == known[:, :, 2:6, 1:6].sum() == 2 * 4 * 5


def test_mistakes_are_told_in_one_line(model, images):
    with pytest.raises(UserError, match="the result would be 20005 x 20004 pixels"):
        outpaint(torch.zeros(1, 1, 4, 5), right=20_000, bottom=20_000)
    with pytest.raises(ValueError, match="must be at least 0"):
        outpaint(images, left=-1)
    with pytest.raises(UserError, match="masked_image: give a list with one value per seed, 3 of them"):
        inpaint(model, images, half_known(), seeds=[1, 2, 3])


def test_a_canvas_that_nobody_can_wait_for_is_refused() -> None:
    with pytest.raises(UserError, match=r"80 x 1000064 pixels, and 16,777,216 is the most"):
        outpaint(torch.zeros(1, 3, 64, 80), top=1_000_000)
