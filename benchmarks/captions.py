"""How captions should be read: by words, by byte pairs or by a frozen encoder, on captions that training never saw.

    .venv/bin/python benchmarks/captions.py --seconds 240 --out docs/results

One network (preset `modern`) on the embedded autoencoder's latents of the emoji, trained for as many samples under each
way of reading captions; the first gets the seconds, which set the number of samples. Then each draws an image for the
captions of held-out concepts ("apple, 3d style": no apple was seen) and of held-out concept-style pairs (apples were
seen, but none in 3d), and real images are ranked by their distance to it (EfficientNet-Lite0 features): how often is an
image with the caption that was asked for the nearest, or among the ten nearest? Models are kept in --runs: stop it and
run it again. An encoder that is not at hand is left out. Writes captions.json, captions.md and captions.png.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from conditions_bench import Bench, changed, labelled_rows, standard_error, table, write

from calotype.chain.judge import judge_samples
from calotype.chain.source import Source, open_source
from calotype.data.emoji import emoji_source
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.utils.errors import UserError

QUESTIONS = ("training conditions", "unseen concepts", "unseen concept-style pairs")
ARMS = {
    "words": ("words", ("tags",)),
    "words and tags": ("words", ()),
    "bpe": ("bpe", ("tags",)),
    "minilm": ("minilm", ("tags",)),
}
SUMMARIES = {
    "words": "an own transformer over the words of the training captions; others are left out",
    "words and tags": "the same, with the set's tags as further words, appended at random in training",
    "bpe": "the transformer of the paper's text model over byte pairs of the training captions",
    "minilm": "token states of the frozen MiniLM, projected, and one trained transformer layer on top",
}
SHOWN = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240, help="training of the first model; all others as long")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--runs", type=Path, default=Path("runs/captions"))
    parser.add_argument("--preset", default="modern")
    parser.add_argument("--data", default="emoji", help="emoji, or a category such as emoji:faces")
    parser.add_argument("--samples", type=int, default=256, help="images for each question, at most 256")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    session = start_session()
    bench, found, rows = Bench(arguments.runs, session, arguments.seconds, arguments.preset), {}, {}
    for arm, (text, without) in ARMS.items():
        source = open_emoji(arguments.data, without, arguments.samples)
        try:
            conditions = bench.conditions(source, Task(text=text))
        except UserError as error:
            print(f"{arm} is left out: {error}", flush=True)
            continue
        model = bench.train(arm.replace(" ", "-"), source, conditions)
        judgement = judge_samples(model, source, session, count=arguments.samples, seed=0)
        found[arm] = {question: numbers(judgement.sets[question].metrics) for question in QUESTIONS}
        found[arm]["parameters of the embedder"] = sum(p.numel() for p in model.conditioner.parameters())
        for question in QUESTIONS[1:]:
            drawn = judgement.sets[question]
            chosen = torch.linspace(0, len(drawn.images) - 1, SHOWN).long()
            rows.setdefault(question, {"real images": drawn.real[chosen]})[arm] = drawn.images[chosen]
        print(arm, {question: found[arm][question] for question in QUESTIONS}, flush=True)
    facts = {
        **bench.facts(),
        "data": f"{arguments.data}, 64 px; held-out concepts and held-out concept-style pairs",
        "sampling": "20 steps of DPM-Solver++(2M), guidance 3, averaged weights, one image per caption, one seed each",
        "one training run of each": "differences below two standard errors say nothing",
    }
    picture = {
        f"{arm}{'*' if question == QUESTIONS[2] else ''}": images
        for question in QUESTIONS[1:]
        for arm, images in rows[question].items()
    }
    write(arguments.out, "captions", {**facts, "results": found}, page(facts, found), labelled_rows(picture))


def open_emoji(data: str, without: tuple[str, ...], most: int) -> Source:
    splits, source = emoji_source(data), open_source(data)
    train, *held_out = (changed(images, without=without) for images in splits)
    drawn = [torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:most] for images in held_out]
    concepts, pairs = (images.subset(sorted(rows.tolist())) for images, rows in zip(held_out, drawn, strict=True))
    return replace(source, train=train, held_out=concepts, questions={QUESTIONS[1]: concepts, QUESTIONS[2]: pairs})


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared: shares with their standard errors, beside those of chance."""
    caption, style = metrics["caption_agreement"], metrics["style_agreement"]
    shares = {"top 1": caption["top_1"], "top 10": caption["top_10"], "style": style}
    return {
        **{
            name: {
                "value": share["value"],
                "standard error": standard_error(share["value"], caption["n"]),
                "chance": share["chance"],
            }
            for name, share in shares.items()
        },
        "median rank": caption["median_rank"],
        "KID-EffLite0": metrics["kid"]["value"],
        "n": caption["n"],
        "ranked among": caption["n_reference"],
    }


def page(facts: dict[str, Any], found: dict[str, Any]) -> str:
    parts = ["# How captions are read", ""]
    parts += [f"- {name}: {value}" for name, value in facts.items()]
    parts += [f"- `{arm}`: {SUMMARIES[arm]}" for arm in found]
    for question in QUESTIONS:
        first = found[next(iter(found))][question]
        parts += ["", f"## {question.capitalize()}", ""]
        parts += [
            f"{first['n']} captions, ranked among {first['ranked among']} real images. In %, ± one standard error."
        ]
        rows = [
            [
                arm,
                *(
                    f"{100 * each[name]['value']:.1f} ± {100 * each[name]['standard error']:.1f}"
                    for name in ("top 1", "top 10", "style")
                ),
                f"{each['median rank']:.0f}",
                f"{each['KID-EffLite0']:.3f}",
            ]
            for arm, each in ((arm, found[arm][question]) for arm in found)
        ]
        rows.append(
            [
                "chance",
                *(f"{100 * first[name]['chance']:.1f}" for name in ("top 1", "top 10", "style")),
                f"{first['ranked among'] / 2:.0f}",
                "",
            ]
        )
        parts += ["", table(["captions by", "top 1", "top 10", "style", "median rank", "KID-EffLite0"], rows)]
    parts += [
        "",
        "![rows: real images of the captions, then each way of reading them; with a star: unseen pairs](captions.png)",
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
