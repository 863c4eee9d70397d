"""What keeps a discriminator from running away: a penalty on its gradient, and one on its confidence."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

DECAY = 0.99


def r1_penalty(images: Float[Tensor, "b c h w"], logits: Float[Tensor, "b 1 h2 w2"]) -> Float[Tensor, ""]:
    """Return how steep the discriminator is at real images: ``E |grad_x sum_p D_p(x)|^2 / P`` over P patches.

    R1 of arXiv:1801.04406 (Eq. 9), per patch, so that a weight means the same at every image size. ``images`` must be
    what ``logits`` were computed from, with ``requires_grad``.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum() / logits.numel()


class LeCam(nn.Module):
    """LeCam regularisation: ``E (D(x) - a_fake)^2 + E (D(x_hat) - a_real)^2`` with moving averages of the logits.

    Section 3 of arXiv:2104.03310. Nothing before the first ``update``.
    """

    real: Tensor
    fake: Tensor
    begun: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("real", "fake", "begun"):
            self.register_buffer(name, torch.tensor(0.0))

    def forward(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
        """Return the penalty on this step's logits."""
        return self.begun * ((real - self.fake).square().mean() + (fake - self.real).square().mean())

    @torch.no_grad()
    def update(self, real: Float[Tensor, ""], fake: Float[Tensor, ""]) -> None:
        """Move the averages towards the mean logits of all processes."""
        weight = 1 - DECAY * self.begun
        self.real.lerp_(real.to(self.real), weight)
        self.fake.lerp_(fake.to(self.fake), weight)
        self.begun.fill_(1.0)
