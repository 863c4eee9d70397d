"""The chain itself: plan once, train, encode, train, judge, report; every stage resumes."""

import logging
from dataclasses import replace
from pathlib import Path

from calotype.artifact import read_artifact, write_config
from calotype.chain.judge import judge_autoencoder, judge_samples
from calotype.chain.plan import Plan, make_plan
from calotype.chain.report import build_report, metric_rows, sample_grid
from calotype.chain.source import Source, open_source
from calotype.chain.stages import train_autoencoder, train_diffusion
from calotype.chain.variations import COLUMNS, draw_guidance, draw_styles
from calotype.pipeline import LatentDiffusion, load_latent_diffusion
from calotype.presets.diffusion import GENERATE
from calotype.presets.tasks import Task
from calotype.training.session import Session, start_session
from calotype.training.trainer import TrainerConfig
from calotype.utils import distributed
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError
from calotype.utils.files import read_json, write_json
from calotype.utils.images import save_png
from calotype.utils.size import Size, size_text

log = logging.getLogger("calotype")
SHOWN = 48


def run_chain(
    source_text: str,
    out: Path,
    *,
    minutes: float = 10.0,
    size: Size | None = None,
    seed: int = 0,
    device: str = "auto",
    from_scratch: bool = False,
    task: Task = GENERATE,
    strict: bool = False,
) -> Path:
    """Take the images that ``source_text`` names through the whole chain into ``out``; return the report's path.

    Calling it again with the same arguments goes on where it stopped; a finished chain only writes its report again.

    Raises:
        UserError: the source or an argument cannot be used, or ``out`` holds something else.
        Interrupted, TrainingError: as ``Trainer.fit``.
    """
    session = start_session(device)
    _check_out(out)
    source = open_source(source_text, strict=strict)
    plan = _stored_plan(source, out, size, from_scratch, task)
    distributed.barrier()  # all have looked before one writes
    if plan is None:
        plan = make_plan(source, session, minutes=minutes, size=size, seed=seed, from_scratch=from_scratch, task=task)
        if distributed.is_main():
            write_config(out, kind="chain", config=to_dict(plan), provenance={"device": str(session.device)})
    else:
        log.info(f"{out} goes on with the plan it was begun with:")
    for line in plan.reasons:
        log.info(line)
    return _run(plan, source, out, session)


def _run(plan: Plan, source: Source, out: Path, session: Session) -> Path:
    autoencoder_preset, diffusion_preset = plan.presets
    settings = TrainerConfig(
        out=str(out / "autoencoder"),
        minutes=plan.autoencoder_minutes,
        batch_size=autoencoder_preset.batch_size,
        seed=plan.seed,
        device=str(session.device),
    )
    log.info(f"stage 1 of 3, the autoencoder: {settings.out}")
    checkpoint = train_autoencoder(autoencoder_preset, source, [plan.size], settings, from_scratch=not plan.warm_start)
    artifact = read_artifact(checkpoint, kind="autoencoder")
    settings = replace(
        settings,
        out=str(out / "diffusion"),
        minutes=plan.diffusion_minutes,
        batch_size=diffusion_preset.batch_size_on(session.device.type),
    )
    log.info(f"stage 2 of 3, the diffusion model: {settings.out}")
    checkpoint = train_diffusion(diffusion_preset, source, artifact, out / "latents", settings, session, plan.task)
    report = out / "report.html"
    if distributed.is_main():
        log.info(f"stage 3 of 3, the report: {report}")
        model = load_latent_diffusion(read_artifact(checkpoint))
        _report(out, report, plan, source, model.to(session.device), session)
    distributed.barrier()
    return report


def _check_out(out: Path) -> None:
    """Refuse a folder that holds anything but a chain, before any work is done."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose another --out")
    if out.exists() and any(out.iterdir()) and not (out / "config.json").exists():
        raise UserError(f"{out} is not empty and holds no chain: choose another --out")


def _stored_plan(source: Source, out: Path, size: Size | None, from_scratch: bool, task: Task) -> Plan | None:
    """Return the plan that the chain in ``out`` was begun with, if there is one and it suits."""
    path = out / "config.json"
    if not path.exists():
        return None
    stored = read_json(path)
    kind = stored.get("kind") if isinstance(stored, dict) else None
    if kind != "chain":
        raise UserError(f"{out} holds no chain but another thing ({kind}): choose another --out")
    plan: Plan = from_dict(Plan, stored.get("config") or {}, where=str(path))
    if plan.fingerprint != source.train.fingerprint:
        if plan.source != source.name:
            raise UserError(f"{out} was begun on {plan.source}, not on {source.name}: choose another --out")
        raise UserError(f"the images of {plan.source} have changed since {out} was begun: choose another --out")
    if size is not None and size != plan.size:
        raise UserError(f"{out} was begun at {size_text(plan.size)} px, not {size_text(size)}: choose another --out")
    if task not in (GENERATE, plan.task):
        raise UserError(f"{out} was begun for another task ({plan.task.name}): choose another --out")
    if from_scratch and plan.warm_start:
        raise UserError(f"{out} was begun from general-purpose weights, not from scratch: choose another --out")
    return plan


def _report(out: Path, path: Path, plan: Plan, source: Source, model: LatentDiffusion, session: Session) -> None:
    reconstructions = judge_autoencoder(model.first_stage, source.held_out)
    judgement = judge_samples(model, source, session, count=plan.samples, seed=plan.seed, progress=True)
    with session.autocast():
        guidance = draw_guidance(model, judgement.samples, plan.seed)
        styles = draw_styles(model, judgement.samples, plan.seed)
    enough = styles is not None and len(styles.images) > COLUMNS
    save_png(out / "samples.png", styles.grid if styles and enough else sample_grid(judgement.samples.images[:SHOWN]))
    build_report(out, plan, source, reconstructions, judgement, guidance, styles).write(path)
    metrics = {
        "reconstruction": reconstructions.metrics,
        "copies": judgement.copies,
        **{name: samples.metrics for name, samples in judgement.sets.items()},
    }
    write_json(out / "metrics.json", metrics)
    found = reconstructions.metrics
    log.info(f"reconstruction PSNR {found['psnr']:.2f} dB on {found['n']} held-out images")
    for name, samples in judgement.sets.items():
        for label, value, scale, _ in metric_rows(samples.metrics or {}):
            log.info(
                f"{name}: {label} {value:.3f}" + (f" (real images or chance {scale:.3f})" if scale is not None else "")
            )
