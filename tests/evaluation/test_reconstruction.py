import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from calotype.evaluation import psnr, reconstruction_metrics, ssim
from calotype.utils.seeds import generator


def pair(n: int, channels: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images and noisy copies of them, with a flat one among them."""
    random = generator("reconstruction", channels, height, width)
    coarse = torch.rand(n, channels, height // 4, width // 4, generator=random) * 2 - 1
    originals = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    originals[0] = 1.0
    noisy = originals + 0.1 * torch.randn(originals.shape, generator=random)
    return originals, noisy.clamp(-1, 1)


@pytest.mark.parametrize("shape", [(3, 3, 32, 40), (2, 1, 16, 16), (2, 5, 11, 24)])
def test_psnr_and_ssim_are_those_of_scikit_image(shape: tuple[int, int, int, int]) -> None:
    originals, noisy = pair(*shape)
    for a, b, decibels, similarity in zip(
        originals, noisy, psnr(originals, noisy), ssim(originals, noisy), strict=True
    ):
        a_pixels, b_pixels = a.double().numpy(), b.double().numpy()
        expected = structural_similarity(
            a_pixels,
            b_pixels,
            channel_axis=0,
            data_range=2.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert float(similarity) == pytest.approx(expected, abs=2e-5)
        assert float(decibels) == pytest.approx(peak_signal_noise_ratio(a_pixels, b_pixels, data_range=2.0), abs=1e-4)


def test_equal_images_are_perfect_and_finite() -> None:
    images, _ = pair(2, 3, 16, 16)
    assert psnr(images, images).tolist() == [100.0, 100.0]
    assert ssim(images, images).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)


def test_psnr_of_a_known_error() -> None:
    zeros = torch.zeros(1, 1, 4, 4)
    assert psnr(zeros, zeros + 0.2).item() == pytest.approx(20.0, abs=1e-4)  # 10 log10 (4 / 0.04)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    images = torch.zeros(1, 1, 10, 64)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(images, images)


def test_metrics_are_means_over_clipped_images() -> None:
    originals, noisy = pair(3, 3, 16, 16)
    originals[1], noisy[1] = 1.0, 3.0  # clipped, this one is perfect
    metrics = reconstruction_metrics(originals, noisy)
    clipped = noisy.clamp(-1, 1)
    assert metrics["n"] == 3
    assert metrics["psnr"] == pytest.approx(psnr(originals, clipped).mean().item())
    assert metrics["ssim"] == pytest.approx(ssim(originals, clipped).mean().item())
    assert metrics["l1"] == pytest.approx((originals - clipped).abs().mean().item())
    assert psnr(originals, clipped).min() <= metrics["psnr_p5"] < metrics["psnr"]
    assert "16 x 16" in str(metrics["protocol"])


def test_metrics_of_tiny_images_have_no_ssim() -> None:
    digits = torch.zeros(2, 1, 8, 8)
    metrics = reconstruction_metrics(digits, digits + 0.1)
    assert "ssim" not in metrics
    assert metrics["l1"] == pytest.approx(0.1)
