"""What a chain decides, and what it says about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from calotype.chain.plan import Plan, choose_preset, choose_size, make_plan
from calotype.chain.source import Source
from calotype.data.image_set import ImageSet, Record
from calotype.training.session import Session
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CPU, GPU = Session(torch.device("cpu"), bf16=False), Session(torch.device("cuda"), bf16=True)


def pictures(fields: list[dict[str, Any]] | None = None) -> ImageSet:
    images = tiny.Pictures(12)
    if fields is not None:
        images.records = tuple(Record(str(index), each) for index, each in enumerate(fields))
    return images


def source(fields: list[dict[str, Any]] | None = None, *, native_size: int = 64) -> Source:
    return Source(pictures(fields), tiny.Pictures(4, first=12), {}, ["a note"], native_size)


def plan(
    session: Session = CPU,
    *,
    minutes: float = 10.0,
    size: int | None = None,
    from_scratch: bool = False,
    **options: Any,
) -> Plan:
    return make_plan(source(**options), session, minutes=minutes, size=size, seed=3, from_scratch=from_scratch)


@pytest.mark.parametrize(
    ("session", "minutes", "size", "presets"),
    [
        (CPU, 0.5, 64, ("kl-f8-debug", "ldm-debug")),
        (CPU, 10.0, 64, ("kl-f4-small", "modern")),
        (CPU, 600.0, 128, ("kl-f4-small", "modern")),
        (GPU, 0.5, 64, ("kl-f4-small", "modern")),
        (GPU, 60.0, 64, ("kl-f4-small", "modern")),
        (GPU, 60.0, 128, ("kl-f8", "modern-base")),
    ],
)
def test_presets_follow_the_machine_the_minutes_and_the_size(
    session: Session, minutes: float, size: int, presets: tuple[str, str]
) -> None:
    chosen = plan(session, minutes=minutes, size=size)
    assert (chosen.autoencoder, chosen.diffusion) == presets
    assert tuple(preset.name for preset in chosen.presets) == presets


@pytest.mark.parametrize(
    ("native", "gpu", "size", "reason"),
    [
        (64, False, 64, "the images have 64"),
        (40, False, 32, "the images have 40"),
        (13, False, 32, "the images have 13, but this is the least"),
        (500, False, 64, "the images have 500, but this is what a CPU can train"),
        (200, True, 128, "the images have 200"),
        (500, True, 256, "the images have 500, but this is what a GPU can train"),
    ],
)
def test_the_size_is_the_largest_that_images_and_machine_allow(native: int, gpu: bool, size: int, reason: str) -> None:
    assert choose_size(source(native_size=native), None, gpu=gpu) == (size, reason)


@pytest.mark.parametrize("size", [0, -16, 8, 30, 1040, 10**9])
def test_sizes_that_cannot_be_trained(size: int) -> None:
    with pytest.raises(UserError, match=rf"--size must be a multiple of 16 between 16 and 1024, not {size}"):
        choose_size(source(), size, gpu=True)


def test_a_size_must_fit_both_networks() -> None:
    assert plan(GPU, minutes=60.0, size=192).diffusion == "modern-base"
    with pytest.raises(UserError, match="--size must be a multiple of 64 for kl-f8 and modern-base, not 144"):
        plan(GPU, minutes=60.0, size=144)


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_minutes_must_be_a_time(minutes: float) -> None:
    with pytest.raises(UserError, match="--minutes must be above 0"):
        plan(minutes=minutes)


def test_the_stages_share_the_minutes_and_leave_some_for_the_report() -> None:
    chosen = plan(minutes=10.0, from_scratch=True)
    assert chosen.autoencoder_minutes == pytest.approx(3.6)
    assert chosen.diffusion_minutes == pytest.approx(5.6)
    assert chosen.reasons[-1] == "3:36 for the autoencoder, 5:36 for the diffusion model, the rest for the report"


def test_an_autoencoder_that_starts_warm_needs_less_of_the_time() -> None:
    warm, cold = plan(), plan(from_scratch=True)
    assert (warm.warm_start, cold.warm_start) == (True, False)
    assert warm.autoencoder_minutes <= cold.autoencoder_minutes / 2
    assert warm.autoencoder_minutes + warm.diffusion_minutes == pytest.approx(9.2)
    assert any(line.startswith("autoencoder kl-f4-small from general-purpose weights, ") for line in warm.reasons)
    assert any(line.startswith("autoencoder kl-f4-small, ") for line in cold.reasons)
    assert not plan(minutes=0.5).warm_start
    assert not plan(GPU, minutes=60.0, size=128).warm_start


def test_a_plan_of_before_there_were_warm_starts_goes_on_from_scratch() -> None:
    stored = to_dict(plan())
    del stored["warm_start"]
    assert not from_dict(Plan, stored).warm_start


@pytest.mark.parametrize(("minutes", "samples"), [(0.1, 16), (10.0, 240), (100.0, 384)])
def test_samples_grow_with_the_minutes(minutes: float, samples: int) -> None:
    assert plan(minutes=minutes).samples == samples


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([{"caption": "a wave"}] * 5 + [{}] * 7, "conditioned on their caption (5 of them have one)"),
        ([{"class": name} for name in "abcabcabcabc"], "conditioned on their class (12 of them have one)"),
        ([{"class": "a", "caption": "x y"}] * 12, "conditioned on their caption (12 of them have one)"),
        ([{"class": "only"}] * 12, "with nothing to condition on (no captions, no classes)"),
        ([{"caption": "!?"}] * 12, "with nothing to condition on (no captions, no classes)"),
        ([{"style": "flat"}] * 12, "with nothing to condition on (no captions, no classes)"),
    ],
)
def test_it_names_what_really_conditions(fields: list[dict[str, Any]], told: str) -> None:
    chosen = plan(fields=fields)
    assert chosen.reasons[0] == f"12 images to train on, {told}"
    conditioner = chosen.presets[1].conditions(pictures(fields)).conditioner
    assert [embedder.field for embedder in conditioner.embedders] == [
        w for w in ("caption", "class") if f" {w} (" in told
    ]


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_a_stage_alone_is_trained_by_the_preset_of_the_chain(stage: str) -> None:
    preset, reason = choose_preset(stage, 64, 10.0, CPU)
    assert preset.name == getattr(plan(minutes=10.0), stage)
    assert reason == "for a CPU in fp32 and 10:00"


def test_notes_and_machine_are_told() -> None:
    reasons = plan(minutes=0.5).reasons
    assert "a note" in reasons
    assert any("for a CPU in fp32 and 30 s (a debug size: do not expect pictures)" in reason for reason in reasons)
    assert any("for a GPU in bf16 and 10:00" in reason for reason in plan(GPU).reasons)


def test_a_plan_round_trips_and_is_checked() -> None:
    chosen = plan()
    assert from_dict(Plan, to_dict(chosen)) == chosen
    with pytest.raises(UserError, match="autoencoder and diffusion must name presets"):
        from_dict(Plan, to_dict(chosen) | {"diffusion": "ldm-lost"})
    with pytest.raises(ValueError, match="must name presets"):
        replace(chosen, autoencoder=str(Path("x")))
