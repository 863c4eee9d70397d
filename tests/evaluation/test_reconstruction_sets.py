import pytest
import torch

from calotype.encoders import EfficientNetLite0Features
from calotype.evaluation import frechet_distance, kernel_distance, reconstruction_distances
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator


class Named(EfficientNetLite0Features):
    """Its name and protocol alone."""

    def __init__(self, is_of_fid: bool = False) -> None:
        torch.nn.Module.__init__(self)
        self.short_name, self.size, self.is_of_fid = "Net", 64, is_of_fid


def features(n: int, key: str) -> torch.Tensor:
    return torch.randn(n, 6, generator=generator("reconstruction sets", key))


def test_what_reconstruction_adds_is_seen_against_real_halves() -> None:
    originals = features(60, "originals")
    near, far = (originals + scale * features(60, "noise") + scale for scale in (0.01, 1.0))
    good, bad = (reconstruction_distances(originals, found, Named()) for found in (near, far))
    assert good["rfd"]["value"] == pytest.approx(frechet_distance(originals, near))
    assert good["rfd"]["value"] < 0.01 < good["rfd"]["real"]  # of the same images: no scale for it
    assert good["rfd"]["halves"] == pytest.approx(good["rfd"]["real"], rel=0.2)
    assert bad["rfd"]["halves"] > 5 * bad["rfd"]["real"]
    assert abs(good["rkid"]["value"]) < 0.01
    assert bad["rkid"]["value"] > 4 * bad["rkid"]["standard_error"]
    assert bad["rkid"]["real"] == good["rkid"]["real"]
    assert abs(good["rkid"]["real"]) < 3 * good["rkid"]["real_standard_error"]


def test_halves_are_disjoint_and_equal_in_size() -> None:
    originals = features(13, "odd")
    found = reconstruction_distances(originals, originals, Named())
    assert (found["rfd"]["n"], found["rfd"]["n_half"]) == (13, 6)
    assert found["rfd"]["halves"] == found["rfd"]["real"]
    order = torch.randperm(13, generator=generator("evaluation", "halves"))
    halves = originals[order[:6]], originals[order[6:12]]
    assert found["rfd"]["real"] == frechet_distance(*halves)
    assert found["rkid"]["real"] == kernel_distance(*halves).value


def test_only_the_network_of_fid_makes_an_rfid() -> None:
    originals = features(8, "names")
    plain, fid = (reconstruction_distances(originals, originals, Named(of_fid)) for of_fid in (False, True))
    assert (plain["rfd"]["name"], plain["rkid"]["name"]) == ("rFD-Net", "rKID-Net")
    assert fid["rfd"]["name"] == "rFID"
    assert "8 originals against their 8 reconstructions. Features: average-pooled" in plain["rfd"]["protocol"]
    with pytest.raises(UserError, match="at least 6 images, there are 5"):
        reconstruction_distances(originals[:5], originals[:5], Named())
