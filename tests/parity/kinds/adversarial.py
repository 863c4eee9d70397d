import torch
from golden_file import Golden
from torch import Tensor

from calotype.losses import NLayerDiscriminatorConfig, adopt_weight, hinge_d_loss, measure_perplexity, vanilla_d_loss
from kinds import kind


@kind("gan_losses")
def gan_losses(golden: Golden) -> dict[str, Tensor]:
    real, fake = golden.inputs["logits_real"], golden.inputs["logits_fake"]
    perplexity, used = measure_perplexity(golden.inputs["indices"], golden.config.get("n_embed", 9))
    return {
        "hinge": hinge_d_loss(real, fake),
        "vanilla": vanilla_d_loss(real, fake),
        "hinge_exemplar": hinge_d_loss(real, fake, golden.inputs["weights"]),
        "adopt_9_10_11": torch.tensor([adopt_weight(0.8, step, threshold=10) for step in (9, 10, 11)]),
        "perplexity": perplexity,
        "cluster_use": used,
    }


@kind("discriminator")
def discriminator(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    model = NLayerDiscriminatorConfig(
        in_channels=config.get("input_nc", 3),
        channels=config.get("ndf", 64),
        num_layers=config.get("n_layers", 3),
        normalisation="act" if config.get("use_actnorm") else "batch",
    ).build()
    model.load_state_dict(golden.state)
    eval_output = model.eval()(golden.inputs["x"])
    train_output = model.train()(golden.inputs["x"])
    after = {f"after_train.{name}": tensor for name, tensor in model.state_dict().items()}
    return {"y_eval": eval_output, "y_train": train_output, **after}
