from pathlib import Path

import numpy as np
import pytest
import torch

from calotype.artifact import Artifact, read_artifact
from calotype.chain import stages
from calotype.data.latents import SHARD, Moments
from calotype.data.loader import Loader
from calotype.data.transforms import Transform
from calotype.models.autoencoder import AutoencoderKL
from calotype.pipeline import load_autoencoder
from calotype.training.encode import encode_latents, latent_statistics, scale_by_std, store_key
from calotype.training.session import start_session
from calotype.utils.files import digest
from tiny import AUTOENCODER, SIZE, Pictures, autoencoder_artifact, loader


@pytest.fixture
def model() -> AutoencoderKL:
    torch.manual_seed(0)
    return AUTOENCODER.build().eval().requires_grad_(False)


def test_statistics_against_numpy(model: AutoencoderKL) -> None:
    """Scale is one over the standard deviation of sampled latents, not of their means."""
    with torch.no_grad():
        model.quant_conv.bias.copy_(torch.tensor([3.0, -40, 0, 1, -1, 0.5, 0, -8]))
    images = loader(70)
    shift, scale = latent_statistics(model, images)

    posterior = model.encode(torch.cat([batch.images for batch in images.all()]))
    mean, logvar = posterior.mean.double().numpy(), posterior.logvar.double().numpy()
    np.testing.assert_allclose(shift, mean.mean((0, 2, 3)), rtol=1e-6)
    variance = mean.var((0, 2, 3)) + np.exp(logvar).mean((0, 2, 3))
    np.testing.assert_allclose(scale, variance**-0.5, rtol=1e-6)

    model.set_latent_statistics(shift, scale)
    draws = torch.randn((200, *posterior.mean.shape[1:]), generator=torch.Generator().manual_seed(0))
    normal = model.normalise(torch.cat([posterior.sample(draws[i : i + 70]) for i in (0, 70)]))
    assert normal.mean((0, 2, 3)).abs().max() < 0.05
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 0.05


def test_statistics_of_the_first_images(model: AutoencoderKL) -> None:
    assert latent_statistics(model, loader(200), limit=64) == latent_statistics(model, loader(64))


def test_encoding_is_that_of_the_plain_images(model: AutoencoderKL, tmp_path: Path) -> None:
    flipped = Loader(Pictures(70), Transform(size=SIZE, flip=True))
    moments = encode_latents(model, flipped, tmp_path, "key", start_session("cpu", "fp32"), quiet=True)
    expected = model.encode(torch.cat([batch.images for batch in loader(70).all()]))
    torch.testing.assert_close(moments.mean, expected.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moments.logvar, expected.logvar, rtol=1e-5, atol=1e-5)


def same(ours: Moments, theirs: Moments) -> bool:
    return torch.equal(ours.mean, theirs.mean) and torch.equal(ours.logvar, theirs.logvar)


def test_encoding_again_reads_the_store(model: AutoencoderKL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = start_session("cpu", "fp32")
    first = encode_latents(model, loader(), tmp_path, "key", session, quiet=True)
    monkeypatch.setattr(model, "encode", None)
    assert same(encode_latents(model, loader(), tmp_path, "key", session, quiet=True), first)
    with pytest.raises(TypeError):
        encode_latents(model, loader(), tmp_path, "another key", session, quiet=True)


def test_only_a_lost_shard_is_encoded_again(
    model: AutoencoderKL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.data.latents.SHARD", 4)
    session, images = start_session("cpu", "fp32"), loader(10)
    whole = encode_latents(model, images, tmp_path, "key", session, quiet=True)
    (tmp_path / "key" / "00000004.safetensors").unlink()
    asked, at = [], images.at
    monkeypatch.setattr(images, "at", lambda rows: asked.extend(rows) or at(rows))
    assert same(encode_latents(model, images, tmp_path, "key", session, quiet=True), whole)
    assert asked == [4, 5, 6, 7]
    assert SHARD == 512


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return autoencoder_artifact(tmp_path / "artifact")


def test_key_changes_with_weights_transform_and_data(artifact: Artifact) -> None:
    key = store_key(artifact, loader())
    assert key == store_key(read_artifact(artifact.folder), loader())
    assert key != store_key(artifact, loader(13))
    assert key != store_key(artifact, loader(), mirror=True)
    assert key != store_key(artifact, Loader(Pictures(12), Transform(size=2 * SIZE)))
    path = artifact.folder / "autoencoder_ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert key != store_key(artifact, loader())


def test_mirrored_latents_are_those_of_mirrored_images(artifact: Artifact, tmp_path: Path) -> None:
    session = start_session("cpu", "fp32")
    latents = stages.latent_loader(artifact, Pictures(5), tmp_path / "latents", 0, session, mirror=True)
    assert len(list((tmp_path / "latents").glob("*/*.safetensors"))) == 2, "a store for each"
    model = load_autoencoder(artifact).model
    images = Loader(Pictures(5), Transform(size=SIZE)).at(range(5)).images
    for expected, found in ((images, latents.moments), (images.flip(3), latents.mirrored)):
        torch.testing.assert_close(model.encode(expected).mean, found.mean)
    assert stages.latent_loader(artifact, Pictures(5), tmp_path / "latents", 0, session).mirrored is None


def test_key_without_averaged_weights(artifact: Artifact) -> None:
    (artifact.folder / "autoencoder_ema.safetensors").unlink()
    images = loader()
    plain = digest(
        artifact.folder / "autoencoder.safetensors",
        "{'size': 16, 'more_sizes': [], 'crop': 'centre', 'flip': False}",
        images.images.fingerprint,
    )
    assert store_key(artifact, images) == plain


def test_scale_by_std_is_one_number_for_a_batch_and_leaves_the_mean() -> None:
    latents = torch.tensor([1.0, 3.0]).expand(5, 2).reshape(5, 2, 1, 1)
    deviation = (10 / 9) ** 0.5
    assert scale_by_std(latents) == pytest.approx(1 / deviation)
