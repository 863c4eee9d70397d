"""How captions should be read: by words, by byte pairs or by a frozen encoder, on captions that training never saw.

    .venv/bin/python benchmarks/captions.py --seconds 240 --out docs/results

One network (preset `modern`) on the embedded autoencoder's latents of the emoji, trained for as many samples under each
way of reading captions; the first gets the seconds, which set the number of samples. Then each draws images for the
captions of held-out concepts ("apple, 3d style": no apple was seen) and of held-out concept-style pairs (apples were
seen, but none in 3d), and real images are ranked by their distance to it (EfficientNet-Lite0 features): how often is an
image with the caption that was asked for the nearest, or among the ten nearest? Models are kept in --runs: stop it and
run it again. An encoder that is not at hand is left out. Writes captions.json, captions.md and captions.png.
"""

import argparse
import logging
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from conditions_bench import Bench, changed, labelled_rows, table, write

from calotype.chain.source import open_source
from calotype.chain.stages import loader
from calotype.data.emoji import EmojiSplits, emoji_source
from calotype.encoders import EfficientNetLite0Features
from calotype.evaluation import caption_agreement, kernel_distance, label_agreement
from calotype.pipeline import LatentDiffusion
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.utils.errors import UserError

QUESTIONS = ("training captions", "unseen concepts", "unseen concept-style pairs")
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
    parser.add_argument("--training-samples", type=int, help="training images of each model, in place of seconds")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--runs", type=Path, default=Path("runs/captions"))
    parser.add_argument("--preset", default="modern")
    parser.add_argument("--data", default="emoji", help="emoji, or a category such as emoji:faces")
    parser.add_argument("--captions", type=int, default=256, help="of each question at most")
    parser.add_argument("--images", type=int, default=1, help="for each caption")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--train-only", action="store_true", help="measure nothing: several processes may train")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    session = start_session()
    bench, found, rows = Bench(arguments.runs, session, arguments.seconds, arguments.preset), {}, {}
    bench.samples = arguments.training_samples
    judge = Judge(bench, emoji_source(arguments.data), arguments.captions, arguments.images)
    for arm in arguments.arms:
        text, without = ARMS[arm]
        splits = [changed(images, without=without) for images in emoji_source(arguments.data)]
        source = replace(open_source(arguments.data), train=splits[0], held_out=splits[1], questions={})
        try:
            conditions = bench.conditions(source, Task(text=text))
        except UserError as error:
            print(f"{arm} is left out: {error}", flush=True)
            continue
        model = bench.train(arm.replace(" ", "-"), source, conditions)
        if arguments.train_only:
            continue
        found[arm] = {}
        for question in QUESTIONS:
            found[arm][question], first = judge.ask(model, question)
            rows.setdefault(question, {"real images": judge.shown[question]})[arm] = first
        print(arm, found[arm], flush=True)
    if not found:
        return
    facts = {
        **bench.facts(),
        "data": f"{arguments.data}, 64 px; held-out concepts and held-out concept-style pairs",
        "sampling": f"20 steps of DPM-Solver++(2M), guidance 3, averaged weights, {arguments.images} per caption",
        "one training run of each": "standard errors are over captions, not over runs",
    }
    marks = dict(zip(QUESTIONS, ("", "*", "**"), strict=True))
    picture = {f"{arm}{marks[question]}": images for question in QUESTIONS for arm, images in rows[question].items()}
    write(arguments.out, "captions", {**facts, "results": found}, page(facts, found), labelled_rows(picture))


class Judge:
    """Draws captions, and ranks real images by their distance to what was drawn."""

    def __init__(self, bench: Bench, splits: EmojiSplits, most: int, repeats: int) -> None:
        self.bench, self.repeats = bench, repeats
        self.features = EfficientNetLite0Features().to(bench.session.device)
        size = bench.first_stage.size
        sets = [loader(images, size, 0) for images in splits]
        real = [images.at(range(len(images))) for images in sets]
        self.real = torch.cat([self.features(batch.images).cpu() for batch in real])
        self.known = {name: [value for batch in real for value in batch.fields[name]] for name in ("caption", "style")}
        self.trained, self.asked, self.shown = len(real[0].images), {}, {}
        for question, batch in zip(QUESTIONS, real, strict=True):
            order = torch.randperm(len(batch.images), generator=torch.Generator().manual_seed(0))
            rows = sorted(order[:most].tolist())
            self.asked[question] = [(batch.fields["caption"][row], batch.fields["style"][row]) for row in rows]
            self.shown[question] = batch.images[rows][:: max(1, len(rows) // SHOWN)][:SHOWN]

    def ask(self, model: LatentDiffusion, question: str) -> tuple[dict[str, Any], torch.Tensor]:
        """Return what is measured for a question, and the first image of some of its captions."""
        asked = self.asked[question]
        captions = [caption for caption, _ in asked for _ in range(self.repeats)]
        with self.bench.session.autocast():
            drawn = model.sample(caption=captions, seeds=range(len(captions)), batch_size=64)
        features = self.features(drawn).cpu().view(len(asked), self.repeats, -1)
        shares: dict[str, list[float]] = {"top 1": [], "top 10": [], "style": []}
        ranks = []
        for (caption, style), own in zip(asked, features, strict=True):
            found = caption_agreement(own, [caption] * self.repeats, self.real, self.known["caption"])
            in_style = label_agreement(own, [style] * self.repeats, self.real, self.known["style"]).agreement
            values = (found.top[1], found.top[10], in_style)
            for name, agreement in zip(shares, values, strict=True):
                shares[name].append(agreement.value)
            ranks.append(found.median_rank)
            chances = {name: agreement.chance for name, agreement in zip(shares, values, strict=True)}
        distance = kernel_distance(features.flatten(0, 1), self.real[: self.trained])
        numbers: dict[str, Any] = {
            name: {
                "value": statistics.fmean(each),
                "standard error": statistics.stdev(each) / len(each) ** 0.5,
                "chance": chances[name],
            }
            for name, each in shares.items()
        }
        numbers |= {"median rank": statistics.median(ranks), "KID-EffLite0": distance.value}
        numbers |= {"captions": len(asked), "images": len(captions), "ranked among": len(self.real)}
        first = drawn[:: self.repeats]
        return numbers, first[:: max(1, len(asked) // SHOWN)][:SHOWN]


def page(facts: dict[str, Any], found: dict[str, Any]) -> str:
    parts = ["# How captions are read", ""]
    parts += [f"- {name}: {value}" for name, value in facts.items()]
    parts += [f"- `{arm}`: {SUMMARIES[arm]}" for arm in found]
    for question in QUESTIONS:
        first = found[next(iter(found))][question]
        parts += ["", f"## {question.capitalize()}", ""]
        parts += [
            f"{first['captions']} captions, {first['images']} images; {first['ranked among']} real ones are ranked. "
            "In %, ± one standard error."
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
        "![rows: real images of the captions, then what was drawn; one star: unseen concepts, two stars: unseen pairs]"
        "(captions.png)",
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
