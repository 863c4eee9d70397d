"""What neighbours are worth: one network with and without them, and what another data base makes of it.

    .venv/bin/python benchmarks/retrieval.py --seconds 240 --out docs/results

One network (preset `modern`) on the embedded autoencoder's latents of the emoji, trained for as many samples with the
four nearest training images of each image as condition, and without (the same layers, fed the null). Without captions
or classes: all that the model is told are vectors of other images. Both draw as many images; neighbours are those of
held-out images, which neither has seen. A third model never sees the style `noto`; its data base is then swapped for
one of noto alone, and for one of each other style, and queried in words ("apple"): in which style does it draw? Models
are kept in --runs: stop it and run it again. Writes retrieval.json, retrieval.md and retrieval.png.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from conditions_bench import Bench, changed, labelled_rows, standard_error, table, write

from calotype.chain.source import Source, open_source
from calotype.chain.stages import loader
from calotype.conditioner import ConditionerConfig
from calotype.data.emoji import STYLES, EmojiSplits, emoji_source
from calotype.diffusion import CFG
from calotype.encoders import EfficientNetLite0Features, RetrievalIndex
from calotype.evaluation import kernel_distance, label_agreement
from calotype.pipeline import LatentDiffusion
from calotype.presets.tasks import Conditions, Task
from calotype.tasks.retrieve import build_index, lookups, retrieve, text_encoder_for
from calotype.training.session import start_session

UNSEEN = "noto"
SCALES = (1.0, 2.0)
SHOWN = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240, help="training of the first model; all others as long")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--runs", type=Path, default=Path("runs/retrieval"))
    parser.add_argument("--preset", default="modern")
    parser.add_argument("--data", default="emoji", help="emoji, or a category such as emoji:faces")
    parser.add_argument("--samples", type=int, default=512, help="images of each row; at most those held out")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    session = start_session()
    bench = Bench(arguments.runs, session, arguments.seconds, arguments.preset)
    judge = Judge(bench, arguments.data, arguments.samples)
    source = open_source(arguments.data)
    conditions = bench.conditions(source, Task(name="retrieve"))
    model = bench.train("neighbours", source, conditions)
    quality, pictures = {}, {"held-out query": judge.queries[:SHOWN]}
    for scale in SCALES:
        drawn = judge.draw(model, CFG(scale))
        quality[f"neighbours, guidance {scale:g}"] = judge.measure(drawn)
        pictures[f"guidance {scale:g}"] = drawn[:SHOWN]
    plain = bench.train("without", source, always_dropped(conditions))
    drawn = judge.draw(plain, None)
    quality["without"], pictures["without"] = judge.measure(drawn), drawn[:SHOWN]
    quality["held-out images themselves"] = judge.measure(judge.queries)
    for name, each in quality.items():
        print(name, each, flush=True)
    few = without_style(source, judge.splits, UNSEEN)
    limited = bench.train("two-styles", few, bench.conditions(few, Task(name="retrieve")))
    swapped = {}
    for style in STYLES:
        swapped[style], drawn = judge.swap(limited, style)
        pictures[f"index: {style}"] = drawn[:SHOWN]
        print(style, swapped[style], flush=True)
    facts = {
        **bench.facts(),
        "seconds asked for the first model": arguments.seconds,
        "data": f"{arguments.data}, 64 px, no captions or classes; queries are images of held-out concepts",
        "sampling": "20 steps of DPM-Solver++(2M), averaged weights, one seed each",
        "one training run of each": "differences below two standard errors say nothing",
    }
    result = {**facts, "quality": quality, f"index swapped, trained without {UNSEEN}": swapped}
    write(arguments.out, "retrieval", result, page(facts, quality, swapped), labelled_rows(pictures))


class Judge:
    """Draws for the held-out concepts, and measures against real images."""

    def __init__(self, bench: Bench, data: str, most: int) -> None:
        self.bench, self.device, self.splits = bench, bench.session.device, emoji_source(data)
        self.features = EfficientNetLite0Features().to(self.device)
        size = bench.first_stage.size
        held_out = self.splits.held_out_concepts
        order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0)).tolist()
        self.held_out = loader(held_out.subset(order[:most]), size, 0)
        self.queries = self.held_out.at(range(len(self.held_out))).images
        self.train = loader(self.splits.train, size, 0)
        real = self.train.at(range(len(self.train)))
        self.real, self.labels = self.features(real.images).cpu(), real.fields
        self.asked = {name: [each.fields[name] for each in self.held_out.images.records] for name in ("class", "style")}

    def draw(self, model: LatentDiffusion, guidance: CFG | None) -> torch.Tensor:
        """Draw with the neighbours of each query, or with nothing."""
        fields: dict[str, Any] = {}
        if guidance is not None:
            found = lookups(model.conditioner.config, model.index, self.held_out, self.device)
            fields = {name: [look(row) for row in range(len(self.queries))] for name, look in found.items()}
        with self.bench.session.autocast():
            return model.sample(seeds=range(len(self.queries)), guidance=guidance, batch_size=64, **fields)

    def measure(self, images: torch.Tensor) -> dict[str, Any]:
        features = self.features(images).cpu()
        distance = kernel_distance(features, self.real)
        found = {"KID-EffLite0": distance.value, "standard error": distance.standard_error, "n": len(images)}
        for name, asked in self.asked.items():
            agreement = label_agreement(features, asked, self.real, self.labels[name]).agreement
            found[name] = share(agreement.value, agreement.chance, len(images))
        return found

    def swap(self, model: LatentDiffusion, style: str) -> tuple[dict[str, Any], torch.Tensor]:
        """Draw the held-out concepts from the images of one style: by their names or, without MiniLM, by images."""
        images = loader(
            changed(self.splits.train, lambda record: record.fields["style"] == style), self.bench.first_stage.size, 0
        )
        assert model.index is not None
        encoder = model.index.contents.encoder
        index: RetrievalIndex = build_index(
            images, encoder, text_encoder_for(images.images, encoder), device=self.device
        )
        names = [record.fields["name"] for record in self.held_out.images.records]
        queries = {"captions": names} if index.has_text else {"images": self.queries}
        with self.bench.session.autocast():
            options = {"index": index, "guidance": CFG(SCALES[-1]), "batch_size": 64}
            drawn = retrieve(model, seeds=range(len(names)), **queries, **options).images
        agreement = label_agreement(self.features(drawn).cpu(), [style] * len(names), self.real, self.labels["style"])
        found = share(agreement.agreement.value, agreement.agreement.chance, len(names))
        return {**found, "queries": next(iter(queries))}, drawn


def share(value: float, chance: float, count: int) -> dict[str, float]:
    return {"value": value, "standard error": standard_error(value, count), "chance": chance, "n": count}


def always_dropped(conditions: Conditions) -> Conditions:
    """Return the same conditions, all of which training drops: the same layers, which are told nothing."""
    embedders = tuple(replace(each, dropout=1.0) for each in conditions.conditioner.embedders)  # type: ignore[type-var]
    return conditions._replace(conditioner=ConditionerConfig(embedders=embedders))


def without_style(source: Source, splits: EmojiSplits, style: str) -> Source:
    train, held_out = (
        changed(images, lambda record: record.fields["style"] != style)
        for images in (splits.train, splits.held_out_concepts)
    )
    return replace(source, train=train, held_out=held_out, questions={})


def page(facts: dict[str, Any], quality: dict[str, Any], swapped: dict[str, Any]) -> str:
    def percent(each: dict[str, float]) -> str:
        return f"{100 * each['value']:.1f} ± {100 * each['standard error']:.1f} (chance {100 * each['chance']:.1f})"

    parts = ["# What neighbours are worth", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    parts += [
        "KID-EffLite0 against the training images, lower is better; category and style of the nearest training image, "
        "which is that of the query in so many %, ± one standard error.",
        "",
        table(
            ["drawn with", "KID-EffLite0", "category", "style"],
            [
                [
                    name,
                    f"{each['KID-EffLite0']:.3f} ± {each['standard error']:.3f}",
                    percent(each["class"]),
                    percent(each["style"]),
                ]
                for name, each in quality.items()
            ],
        ),
        "",
        f"Trained without {UNSEEN}, and asked for held-out concepts (by {swapped[UNSEEN]['queries']}) with images of "
        "one style as data base: so many % of the samples have a nearest real image of that style.",
        "",
        table(["data base", "drawn in its style"], [[name, percent(each)] for name, each in swapped.items()]),
        "",
        "![rows: held-out queries, drawn with their neighbours, drawn without; drawn from data bases of one style]"
        "(retrieval.png)",
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
