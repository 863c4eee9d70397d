import torch

from calotype.diffusion import NoiseSource


def test_an_image_depends_on_its_own_seed_alone():
    many, one = NoiseSource(range(5)), NoiseSource([3])
    assert torch.equal(many.initial((3, 4, 4))[3:4], one.initial((3, 4, 4)))
    for _ in range(3):
        assert torch.equal(many.draw((3, 4, 4))[3:4], one.draw((3, 4, 4)))


def test_draws_differ_by_step_and_by_seed_and_start_is_a_stream_of_its_own():
    source = NoiseSource([7, 8])
    draws = [source.initial((2, 8, 8)), source.draw((2, 8, 8)), source.draw((2, 8, 8))]
    rows = torch.cat(draws)
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 6
    assert torch.equal(source.initial((2, 8, 8)), draws[0])


def test_the_dtype_does_not_change_the_numbers():
    assert torch.equal(NoiseSource([1]).draw((4,)).double(), NoiseSource([1]).draw((4,), dtype=torch.float64))
    assert NoiseSource(range(3)).draw((2, 5), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_it_is_standard_normal():
    draw = NoiseSource(range(64)).draw((4, 32, 32))
    standard_error = draw.numel() ** -0.5
    assert abs(draw.mean()) < 5 * standard_error
    assert abs(draw.square().mean() - 1) < 5 * standard_error * 2**0.5
