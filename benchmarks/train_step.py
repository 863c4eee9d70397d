"""A training step of the small UNet: ours, ours with PyTorch's fused attention, and diffusers' UNet of the same shape.

    .venv/bin/python -m pip install diffusers==0.42.1      (the peer; nothing else needs it)
    .venv/bin/python benchmarks/train_step.py --out docs/results/train_step.json

One process, same threads, same data, AdamW (fused), bf16 autocast where the CPU has it. The variants take turns, one
step each, so that a noisy machine disturbs all alike; medians of the per-round ratios are printed.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import calotype.nn.attention as attention
from calotype.models.unet import UNetConfig
from calotype.training.session import start_session

BATCH, CHANNELS, LATENT, SIZE, CONTEXT = 64, 128, 16, 8, 128


def ours() -> torch.nn.Module:
    return UNetConfig(
        in_channels=LATENT,
        out_channels=LATENT,
        channels=CHANNELS,
        channel_multipliers=(1, 1),
        num_res_blocks=1,
        attention_factors=(1, 2),
        transformer_depth=1,
        context_channels=CONTEXT,
        head_channels=32,
    ).build()


def diffusers() -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=LATENT,
        out_channels=LATENT,
        block_out_channels=(CHANNELS, CHANNELS),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=CONTEXT,
        attention_head_dim=CHANNELS // 32,
    )


def stepper(network: torch.nn.Module, call: Callable[..., torch.Tensor]) -> Callable[[], None]:
    session = start_session("cpu")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    x, context = torch.randn(BATCH, LATENT, SIZE, SIZE), torch.randn(BATCH, 16, CONTEXT)
    t = torch.rand(BATCH) * 1000

    def step() -> None:
        with session.autocast():
            output = call(network, x, t, context)
        optimiser.zero_grad(set_to_none=True)
        output.float().square().mean().backward()
        optimiser.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    small = attention.SMALL_SCORES
    networks = {"calotype": ours(), "calotype, fused attention": ours(), "diffusers": diffusers()}
    calls = {
        "calotype": lambda net, x, t, c: net(x, t, context=c),
        "calotype, fused attention": lambda net, x, t, c: net(x, t, context=c),
        "diffusers": lambda net, x, t, c: net(x, t, c).sample,
    }
    steps = {name: stepper(network, calls[name]) for name, network in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(arguments.rounds + 2):
        for name, step in steps.items():
            attention.SMALL_SCORES = 0 if name.endswith("fused attention") else small
            begun = time.perf_counter()
            step()
            if round_number >= 2:
                seconds[name].append(time.perf_counter() - begun)
    rows = {
        name: {
            "parameters": sum(p.numel() for p in networks[name].parameters()),
            "samples_per_second": BATCH / statistics.median(times),
            "speed_over_diffusers": statistics.median(
                peer / own for own, peer in zip(times, seconds["diffusers"], strict=True)
            ),
        }
        for name, times in seconds.items()
    }
    for name, row in rows.items():
        print(
            f"{name:28s} {row['parameters'] / 1e6:6.2f} M  {row['samples_per_second']:7.1f} samples/s  "
            f"{row['speed_over_diffusers']:.2f}x diffusers"
        )
    if arguments.out:
        environment = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "bf16": start_session("cpu").bf16,
            "rounds": arguments.rounds,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"environment": environment, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
