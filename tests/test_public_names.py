"""What the package offers to Python."""

from pathlib import Path

import calotype as ct
import tiny


def test_every_name_is_there() -> None:
    assert [name for name in ct.__all__ if getattr(ct, name, None) is None] == []


def test_an_autoencoder_is_trained_from_python(tmp_path: Path) -> None:
    images = ct.Loader(tiny.Pictures(8), ct.Transform(size=16))
    config = ct.AutoencoderRecipeConfig(
        autoencoder=ct.VQModelConfig(**tiny.SHAPE, quantiser=ct.FSQConfig(levels=(4, 4, 3, 3))),
        loss=ct.VQLPIPSWithDiscriminatorConfig(
            perceptual=ct.NoPerceptualConfig(),
            perceptual_weight=0.0,
            discriminator=ct.NLayerDiscriminatorConfig(channels=8, num_layers=2),
            disc_start=0,
        ),
    )
    trainer = ct.Trainer(ct.TrainerConfig(out=str(tmp_path / "ae"), samples=8, batch_size=4, device="cpu"))
    checkpoint = trainer.fit(ct.AutoencoderRecipe(config, images), images)
    trained = ct.load(checkpoint)
    assert isinstance(trained, ct.TrainedAutoencoder)
    assert isinstance(trained.model, ct.VQModel)
    assert trained.model.config == config.autoencoder
    assert trained.reconstruct(images.at([0]).images).shape == (1, 3, 16, 16)
