"""The whole judgement of an autoencoder, on small untrained ones."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from calotype.evaluation import (
    AutoencoderEvaluation,
    Instruments,
    build_report,
    evaluate_autoencoder,
    evaluation_rows,
    load_instruments,
    psnr,
    reconstruction_metrics,
    text_table,
    worst_cases,
    write_evaluation,
)
from calotype.losses.vgg import LPIPS
from calotype.models.autoencoder import Autoencoder, IdentityAutoencoderConfig
from calotype.models.quantisers import FSQConfig, VectorQuantizer2Config
from calotype.models.vq_model import VQModelConfig
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator

CPU = torch.device("cpu")
NOTHING = Instruments(None, (), {})


def images(n: int = 9, channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(n, channels, size, size, generator=generator("evaluation", n, channels, size)) * 1.8 - 0.9


def batches(of: Tensor, count: int = 4) -> Iterator[tuple[list[str], Tensor]]:
    names = [f"{index}.png" for index in range(len(of))]
    yield from ((names[start : start + count], of[start : start + count]) for start in range(0, len(of), count))


def kl(channels: int = 3, **changes: object) -> Autoencoder:
    torch.manual_seed(0)
    return replace(tiny.AUTOENCODER, image_channels=channels, **changes).build().eval()


def vq(quantiser: VectorQuantizer2Config | FSQConfig, latent_channels: int = 3) -> Autoencoder:
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_multipliers": (1, 1), "num_res_blocks": 1, "attention": "none", "resolution": 16}
    return VQModelConfig(**shape, latent_channels=latent_channels, quantiser=quantiser).build().eval()


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return load_instruments(3, CPU)


@pytest.fixture(scope="module")
def found(instruments: Instruments) -> AutoencoderEvaluation:
    return evaluate_autoencoder(kl(), batches(images()), instruments)


def test_everything_is_there_and_plain(found: AutoencoderEvaluation) -> None:
    metrics = json.loads(json.dumps(found.metrics, allow_nan=False))
    assert metrics == found.metrics
    assert list(metrics) == [
        "reconstruction",
        "perceptual",
        "distances",
        "channels",
        "latents",
        "diffusability",
        "worst",
    ]
    assert list(metrics["distances"]) == ["EffLite0"]
    assert metrics["distances"]["EffLite0"]["rfd"]["name"] == "rFD-EffLite0"
    assert set(metrics["diffusability"]) == {"high_frequencies", "scale_equivariance", "low_pass"}
    assert metrics["latents"]["shape"] == [4, 8, 8]
    assert metrics["latents"]["kl"]["per_number"] > 0
    measured = [metrics["reconstruction"], metrics["perceptual"], *metrics["distances"]["EffLite0"].values()]
    assert all(entry["protocol"] and entry["n"] == 9 for entry in measured)


def test_numbers_do_not_depend_on_batches(found: AutoencoderEvaluation, instruments: Instruments) -> None:
    model, whole = kl(), images()
    with torch.no_grad():
        reconstructions = model.decode(model.encode(whole).mode()).clamp(-1, 1)
        expected = reconstruction_metrics(whole, reconstructions)
        perceptual = float(instruments.perceptual.distance(whole, reconstructions).mean())
    for name in ("psnr", "psnr_p5", "ssim", "l1"):
        assert found.metrics["reconstruction"][name] == pytest.approx(expected[name], rel=1e-4)
    assert found.metrics["perceptual"]["value"] == pytest.approx(perceptual, rel=1e-4)
    assert found.values["psnr"].tolist() == pytest.approx(psnr(whole, reconstructions).tolist(), rel=1e-4)


def test_the_worst_are_the_worst(found: AutoencoderEvaluation) -> None:
    many = images(40)
    many[[7, 31]] *= torch.tensor([0.01, 0.1]).view(2, 1, 1, 1)
    judged = evaluate_autoencoder(kl(), batches(many, 30), NOTHING)
    decibels = judged.values["psnr"].tolist()
    assert [pair.psnr for pair in judged.worst] == sorted(decibels)[:16]
    assert [pair.name for pair in judged.shown] == [f"{index}.png" for index in range(16)]
    for pair in judged.worst:
        index = int(pair.name.removesuffix(".png"))
        assert torch.equal(pair.original, many[index])
        assert pair.psnr == decibels[index]
    assert judged.metrics["worst"][0] == {"image": judged.worst[0].name, "psnr": min(decibels)}
    assert len(found.worst) == 9


def test_codes_are_counted() -> None:
    whole = images()
    model = vq(VectorQuantizer2Config(codes=16))
    judged = evaluate_autoencoder(model, batches(whole), NOTHING).metrics
    indices = model.quantise(model.encode(whole).mode()).indices
    assert judged["codebook"]["codes"] == 16
    assert judged["codebook"]["n"] == indices.numel() == 9 * 64
    assert judged["codebook"]["used"] == len(indices.unique())
    assert "kl" not in judged["latents"]
    with torch.no_grad():
        expected = reconstruction_metrics(whole, model(whole)[0])["psnr"]
    assert judged["reconstruction"]["psnr"] == pytest.approx(expected, rel=1e-5)


def test_codes_of_other_quantisers_and_remapped_ones() -> None:
    fsq = evaluate_autoencoder(vq(FSQConfig(levels=(5, 4, 3))), batches(images()), NOTHING).metrics["codebook"]
    assert fsq["codes"] == 60
    assert 1 <= fsq["perplexity"] <= fsq["used"] <= 60
    remapped = vq(VectorQuantizer2Config(codes=16, remap=(3, 5, 8)))
    torch.manual_seed(1)
    first = evaluate_autoencoder(remapped, batches(images()), NOTHING).metrics["codebook"]
    assert first["codes"] == 3
    torch.manual_seed(2)
    assert evaluate_autoencoder(remapped, batches(images()), NOTHING).metrics["codebook"] == first


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    judged = evaluate_autoencoder(kl(channels), batches(images(channels=channels)), load_instruments(channels, CPU))
    rows = {row.measure: row for row in evaluation_rows(judged.metrics)}
    if channels == 1:
        assert "rFD-EffLite0" in rows
        assert "missing" not in judged.metrics
    else:
        assert rows["rFD and rKID"].scale == f"not available for {channels} channels: the networks see 1 or 3"
        assert float(rows["perceptual distance, SqueezeNet, by channel"].value) > 0
        assert rows["PSNR, worst channel"].scale.endswith(f"of 0 to {channels - 1}")
    write_evaluation(tmp_path, judged, build_report(judged, "title", "about"), judged.metrics)
    assert Image.open(tmp_path / "worst.png").mode == ("L" if channels == 1 else "RGB")


def test_what_cannot_be_measured_is_said(instruments: Instruments) -> None:
    judged = evaluate_autoencoder(IdentityAutoencoderConfig().build(), batches(images(3, size=8)), instruments).metrics
    assert judged["missing"] == {
        "SSIM": "not available for images of 8 x 8 pixels: it needs 11",
        "rFD and rKID": "not available for 3 images: they need 6",
    }
    assert judged["reconstruction"]["psnr"] == 100
    ruined = kl()
    next(ruined.parameters()).data.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        evaluate_autoencoder(ruined, batches(images()), NOTHING)
    with pytest.raises(UserError, match="no images"):
        evaluate_autoencoder(kl(), iter(()), NOTHING)


def test_values_beyond_the_range_are_told() -> None:
    beyond = images(4)
    beyond[0] = 1.5
    judged = evaluate_autoencoder(IdentityAutoencoderConfig().build(), batches(beyond), NOTHING).metrics
    assert judged["reconstruction"]["outside"] == 0.25
    assert [row.value for row in evaluation_rows(judged) if row.measure == "pixels beyond the range"] == ["25.00%"]
    assert judged["reconstruction"]["psnr"] < 100


def test_lpips_is_called_so_with_its_channel_weights_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = LPIPS().state_dict()
    vgg = {name: value for name, value in state.items() if name.startswith("net")}
    heads = {name: torch.rand_like(value) for name, value in state.items() if name.startswith("lin")}
    torch.save(vgg, tmp_path / "vgg.pth")
    torch.save(heads, tmp_path / "heads.pth")
    plain = load_instruments(3, CPU, vgg16=tmp_path / "vgg.pth").perceptual
    learned = load_instruments(3, CPU, vgg16=tmp_path / "vgg.pth", lpips_heads=tmp_path / "heads.pth").perceptual
    assert plain is not None
    assert learned is not None
    assert (plain.name, learned.name) == ("perceptual distance, VGG16", "LPIPS, VGG16")
    assert "not LPIPS" in plain.protocol


def test_the_same_images_give_the_same_numbers_bit_for_bit(
    found: AutoencoderEvaluation, instruments: Instruments
) -> None:
    """In this process and in another one."""

    def everything(found: AutoencoderEvaluation) -> str:
        return json.dumps([found.metrics, {name: v.tolist() for name, v in found.values.items()}, found.spectra])

    assert torch.get_num_threads() == 1
    assert everything(evaluate_autoencoder(kl(), batches(images()), instruments)) == everything(found)
    code = (
        "import json, sys, torch\n"
        "torch.set_num_threads(1)\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(tiny.__file__).parent)]!r}\n"
        "from test_autoencoder_evaluation import *\n"
        "found = evaluate_autoencoder(kl(), batches(images()), load_instruments(3, CPU))\n"
        "print(json.dumps([found.metrics, {n: v.tolist() for n, v in found.values.items()}, found.spectra]))\n"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert elsewhere.strip() == everything(found)


def test_the_report_has_all_numbers_and_pictures(found: AutoencoderEvaluation, tmp_path: Path) -> None:
    report = build_report(found, "runs/<ae>", "9 images")
    write_evaluation(tmp_path, found, report, {"data": "photos", **found.metrics})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "reconstructions.png",
        "report.html",
        "spectra.png",
        "worst.png",
    ]
    assert json.loads((tmp_path / "metrics.json").read_text())["data"] == "photos"
    html = (tmp_path / "report.html").read_text()
    assert html.count("<img") == 4
    assert "runs/&lt;ae&gt;" in html
    for row in evaluation_rows(found.metrics):
        assert row.measure.replace("'", "&#x27;") in html
        assert row.value in html
    assert np.array_equal(np.asarray(Image.open(tmp_path / "worst.png")), worst_cases(found))


def test_the_table_is_aligned(found: AutoencoderEvaluation) -> None:
    rows = evaluation_rows(found.metrics)
    lines = text_table(rows).splitlines()
    assert len(lines) == len(rows)
    assert len({line.index(row.value) + len(row.value) for line, row in zip(lines, rows, strict=True)}) == 1
    assert not any(line.endswith(" ") for line in lines)
