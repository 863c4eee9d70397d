"""Write the numbers of a finished chain (`calotype run`) as a page of docs/results.

.venv/bin/python scripts/chain_results.py runs/demo --out docs/results/demo.md
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from calotype.chain.report import metric_rows
from calotype.training.logs import read_metrics
from calotype.utils.files import atomic_write, read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with atomic_write(arguments.out) as temporary:
        temporary.write_text(page(arguments.run), encoding="utf-8")
    print(arguments.out)


def page(run: Path) -> str:
    chain, metrics = read_json(run / "config.json"), read_json(run / "metrics.json")
    plan, versions = chain["config"], chain["provenance"]
    reconstruction = metrics["reconstruction"]
    sets = {name: found for name, found in metrics.items() if name not in ("reconstruction", "copies")}
    rows = [
        f"| {name} | {label} | {value:.3f} | {'' if scale is None else f'{scale:.3f}'} |"
        for name, found in sets.items()
        for label, value, scale, _ in metric_rows(found or {})
    ]
    protocols = dict.fromkeys(protocol for found in sets.values() for *_, protocol in metric_rows(found or {}))
    copies = metrics["copies"]
    stages = "\n".join(stage(run, name, plan[name]) for name in ("autoencoder", "diffusion"))
    return f"""# {plan["source"]}: the whole chain in minutes

Printed by `scripts/chain_results.py` from a run of `calotype run {plan["source"]}`, seed {plan["seed"]}, on
{versions["device"]} with {os.cpu_count()} cores, torch {versions["torch"]}, Python {versions["python"]}.

| stage | preset | samples | minutes | samples/s |
|---|---|---|---|---|
{stages}

Reconstruction of {reconstruction["n"]} held-out images: PSNR {reconstruction["psnr"]:.2f} dB (worst 5 %:
{reconstruction["psnr_p5"]:.2f}), SSIM {reconstruction["ssim"]:.3f}.

| samples for the conditions of | metric | value | real images or chance |
|---|---|---|---|
{chr(10).join(rows)}

Copies of training images: {copies["copies"]:.1%} of samples, {copies["held_out_copies"]:.1%} of held-out real images
(root mean square difference under {copies["threshold"]:g}). Median distance to the nearest training image:
{copies["median_distance"]:.3f} for samples, {copies["held_out_median_distance"]:.3f} for held-out real images.

Protocols:

{chr(10).join(f"- {protocol}" for protocol in protocols)}
"""


def stage(run: Path, name: str, preset: str) -> str:
    config: dict[str, Any] = json.loads((run / name / "config.json").read_text(encoding="utf-8"))["config"]
    rates = [
        row["samples_per_second"] for row in read_metrics(run / name / "metrics.jsonl") if "samples_per_second" in row
    ]
    return f"| {name} | {preset} | {config['samples']} | {config['minutes']:.1f} | {rates[-1]:.0f} |"


if __name__ == "__main__":
    main()
