import math

import pytest
import torch

from calotype.evaluation import frechet_distance, kernel_distance, paired_kernel_distance
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator


def normal(n: int, d: int, *key: int | str) -> torch.Tensor:
    return torch.randn(n, d, generator=generator("frechet", *key), dtype=torch.float64)


def with_moments(x: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Move ``x`` so that its sample mean and unbiased covariance are exactly these."""
    white = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(white.T.cov()), white.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    # Diagonal covariances commute: tr (S_a S_b)^1/2 is the sum of the products of their roots.
    roots_a, roots_b = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([2.0, 1.0, 0.1]).double()
    shift = torch.tensor([0.3, -1.0, 2.0]).double()
    a = with_moments(normal(50, 3, 1), torch.zeros(3).double(), roots_a.square().diag())
    b = with_moments(normal(80, 3, 2), shift, roots_b.square().diag())
    expected = shift.square().sum() + (roots_a - roots_b).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-10)


def test_frechet_distance_of_correlated_gaussians_is_the_matrix_formula() -> None:
    a, b = normal(60, 5, 3) @ normal(5, 5, 4), normal(70, 5, 5) @ normal(5, 5, 6) + 1
    s_a, s_b = a.T.cov(), b.T.cov()
    trace = torch.linalg.eigvals(s_a @ s_b).sqrt().sum().real
    expected = (a.mean(0) - b.mean(0)).square().sum() + s_a.trace() + s_b.trace() - 2 * trace
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("n", [300, 20])
def test_frechet_distance_of_a_set_to_itself_is_zero_and_it_is_symmetric(n: int) -> None:
    x, y = 5 * normal(n, 64, 7), normal(40, 64, 8) + 1  # 20 images in 64 dimensions: rank-deficient
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x.flip(0)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-12)


def test_frechet_distance_of_rank_deficient_sets_is_that_of_the_space_they_span() -> None:
    a, b = normal(30, 3, 9), 2 * normal(30, 3, 10)
    embedding = torch.linalg.qr(normal(100, 3, 11)).Q.T
    assert frechet_distance(a @ embedding, b @ embedding) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_frechet_bias_falls_with_one_over_n() -> None:
    small, large = (frechet_distance(normal(n, 8, "a", n), normal(n, 8, "b", n)) for n in (100, 1600))
    assert 8 < small / large < 32


def test_kernel_distance_is_the_plain_double_sum() -> None:
    a, b = normal(7, 4, 12), normal(5, 4, 13) + 0.5

    def mean_kernel(x: torch.Tensor, y: torch.Tensor, skip_equal: bool) -> float:
        terms = [
            (float(p @ q) / 4 + 1) ** 3 for i, p in enumerate(x) for j, q in enumerate(y) if not (skip_equal and i == j)
        ]
        return sum(terms) / len(terms)

    expected = mean_kernel(a, a, True) + mean_kernel(b, b, True) - 2 * mean_kernel(a, b, False)
    assert kernel_distance(a, b).value == pytest.approx(expected, rel=1e-10)
    assert kernel_distance(a, b).value == pytest.approx(kernel_distance(b, a).value, rel=1e-10)


def test_standard_error_is_the_jackknife_by_brute_force() -> None:
    a, b = normal(9, 4, 14), normal(6, 4, 15) + 0.5

    def spread(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return (len(values) - 1) / len(values) * sum((value - mean) ** 2 for value in values)

    without_a = [kernel_distance(torch.cat([a[:i], a[i + 1 :]]), b).value for i in range(len(a))]
    without_b = [kernel_distance(a, torch.cat([b[:i], b[i + 1 :]])).value for i in range(len(b))]
    expected = math.sqrt(spread(without_a) + spread(without_b))
    assert kernel_distance(a, b).standard_error == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_kernel_distance_is_unbiased_and_its_standard_error_true(shift: float) -> None:
    distances = [kernel_distance(normal(40, 8, "p", i), normal(40, 8, "q", i) + shift) for i in range(200)]
    values = torch.tensor([distance.value for distance in distances])
    errors = torch.tensor([distance.standard_error for distance in distances])
    assert 0.8 < float(errors.mean() / values.std()) < 1.8
    if shift:
        assert float((values > 3 * errors).float().mean()) > 0.9
    else:
        assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(len(values))


def test_sums_over_row_blocks_are_the_whole_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(33, 4, 16), normal(21, 4, 17)
    whole = kernel_distance(a, b)
    monkeypatch.setattr("calotype.evaluation.frechet._ROWS", 8)
    blocks = kernel_distance(a, b)
    assert (blocks.value, blocks.standard_error) == pytest.approx((whole.value, whole.standard_error), rel=1e-10)


def test_sets_that_cannot_be_measured_are_refused() -> None:
    x = normal(5, 4, 18)
    with pytest.raises(UserError, match="at least 2 images in each, got 1"):
        frechet_distance(x, x[:1])
    with pytest.raises(UserError, match="at least 3 images in each, got 2"):
        kernel_distance(x[:2], x)
    with pytest.raises(UserError, match="not finite"):
        kernel_distance(x, x.index_fill(0, torch.tensor([1]), torch.nan))


def likeness(n: int, key: int, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs from one distribution, each alike: what the other set has is no more than ``noise`` away."""
    shared, a, b = (normal(n, 8, name, key) for name in ("shared", "own a", "own b"))
    return shared + noise * a, shared + noise * b


def test_paired_kernel_distance_is_the_plain_double_sum_and_its_jackknife() -> None:
    a, b = normal(7, 4, 19), normal(7, 4, 20) + 0.5

    def k(p: torch.Tensor, q: torch.Tensor) -> float:
        return (float(p @ q) / 4 + 1) ** 3

    def plain(a: torch.Tensor, b: torch.Tensor) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(a)) if i != j]
        return sum(k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in pairs) / len(pairs)

    found = paired_kernel_distance(a, b)
    assert found.value == pytest.approx(plain(a, b), rel=1e-10)
    without = torch.tensor(
        [plain(torch.cat([a[:i], a[i + 1 :]]), torch.cat([b[:i], b[i + 1 :]])) for i in range(7)]
    ).double()
    assert found.standard_error == pytest.approx(math.sqrt(6 * float(without.var(correction=0))), rel=1e-5)


def test_paired_kernel_distance_is_unbiased_where_pairs_are_alike() -> None:
    pairs = [likeness(24, key, noise=0.3) for key in range(200)]
    paired = torch.tensor([paired_kernel_distance(a, b).value for a, b in pairs])
    as_if_independent = torch.tensor([kernel_distance(a, b).value for a, b in pairs])
    error = float(paired.std()) / math.sqrt(len(pairs))
    assert abs(float(paired.mean())) < 3 * error
    assert float(as_if_independent.mean()) < -20 * error


def test_a_set_is_no_distance_from_its_own_copy() -> None:
    a, _ = likeness(9, 0)
    assert paired_kernel_distance(a, a).value == pytest.approx(0, abs=1e-12)
