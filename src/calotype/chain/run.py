"""The chain itself: plan once, train, encode, train, judge, report; every stage resumes."""

import logging
from dataclasses import replace
from pathlib import Path

from calotype.artifact import read_artifact, write_config
from calotype.chain.judge import judge_autoencoder, judge_samples
from calotype.chain.plan import Plan, make_plan
from calotype.chain.report import build_report, metric_rows, sample_grid, style_variations
from calotype.chain.source import Source, open_source
from calotype.chain.stages import train_autoencoder, train_diffusion
from calotype.pipeline import LatentDiffusion, load_latent_diffusion
from calotype.training.session import Session, start_session
from calotype.training.trainer import TrainerConfig
from calotype.utils import distributed
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError
from calotype.utils.files import read_json, write_json
from calotype.utils.images import save_png

log = logging.getLogger("calotype")


def run_chain(
    source_text: str,
    out: Path,
    *,
    minutes: float = 10.0,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Take the images that ``source_text`` names through the whole chain into ``out``; return the report's path.

    Calling it again with the same arguments goes on where it stopped; a finished chain only writes its report again.

    Raises:
        UserError: the source or an argument cannot be used, or ``out`` holds something else.
        Interrupted, TrainingError: as ``Trainer.fit``.
    """
    session = start_session(device)
    source = open_source(source_text)
    plan, reasons = _plan(source, out, session, minutes=minutes, size=size, seed=seed)
    for line in reasons:
        log.info(line)
    autoencoder_preset, diffusion_preset = plan.presets
    settings = TrainerConfig(
        out=str(out / "autoencoder"),
        minutes=plan.autoencoder_minutes,
        batch_size=autoencoder_preset.batch_size,
        seed=plan.seed,
        device=device,
    )
    checkpoint = train_autoencoder(autoencoder_preset, source, plan.size, settings)
    artifact = read_artifact(checkpoint, kind="autoencoder")
    settings = replace(
        settings,
        out=str(out / "diffusion"),
        minutes=plan.diffusion_minutes,
        batch_size=diffusion_preset.batch_size,
    )
    checkpoint = train_diffusion(diffusion_preset, source, artifact, out / "latents", settings, session)
    report = out / "report.html"
    if distributed.is_main():
        model = load_latent_diffusion(read_artifact(checkpoint))
        with session.autocast():
            _report(out, report, plan, reasons, source, model.to(session.device))
    distributed.barrier()
    return report


def _plan(
    source: Source, out: Path, session: Session, *, minutes: float, size: int | None, seed: int
) -> tuple[Plan, list[str]]:
    """Return the plan in ``out`` if there is one, else make one and write it there."""
    path = out / "config.json"
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out} is not empty and holds no chain: choose another --out")
        plan, reasons = make_plan(source, session, minutes=minutes, size=size, seed=seed)
        if distributed.is_main():
            stored = {"plan": to_dict(plan), "reasons": reasons, "fingerprint": source.train.fingerprint}
            write_config(out, kind="chain", config=stored, provenance={"device": str(session.device)})
        distributed.barrier()
        return plan, reasons
    stored = read_json(path)
    if stored.get("kind") != "chain":
        raise UserError(f"{out} holds a {stored.get('kind')}, not a chain: choose another --out")
    config = stored["config"]
    plan = from_dict(Plan, config["plan"], where=str(path))
    if plan.source != source.name or config["fingerprint"] != source.train.fingerprint:
        raise UserError(f"{out} was begun on other images ({plan.source}): choose another --out")
    if size not in (None, plan.size):
        raise UserError(f"{out} was begun at {plan.size} px, not {size}: choose another --out")
    return plan, config["reasons"]


def _report(out: Path, path: Path, plan: Plan, reasons: list[str], source: Source, model: LatentDiffusion) -> None:
    reconstructions = judge_autoencoder(model.first_stage, source.held_out)
    judgement = judge_samples(model, source, count=plan.samples, seed=plan.seed, progress=True)
    grid = out / "samples.png"
    if (styles := style_variations(judgement.samples)) is not None:
        captions, kinds = styles
        columns = len(captions) // len(kinds)
        seeds = [plan.seed + index % columns for index in range(len(captions))]
        save_png(grid, sample_grid(model.sample(seeds=seeds, caption=captions), columns))
    else:
        save_png(grid, sample_grid(judgement.samples.images[:48]))
    build_report(out, plan, reasons, source, reconstructions, model, judgement).write(path)
    metrics = {
        "reconstruction": reconstructions.metrics,
        "training conditions": judgement.samples.metrics,
        "copies": judgement.copies,
        **{name: samples.metrics for name, samples in judgement.questions.items()},
    }
    write_json(out / "metrics.json", metrics)
    found = reconstructions.metrics
    log.info(f"reconstruction PSNR {found['psnr']:.2f} dB on {found['n']} held-out images")
    for name, samples in {"training conditions": judgement.samples, **judgement.questions}.items():
        for label, value, scale, _ in metric_rows(samples.metrics or {}):
            log.info(
                f"{name}: {label} {value:.3f}" + (f" (real images or chance {scale:.3f})" if scale is not None else "")
            )
    log.info(f"samples: {grid}")
