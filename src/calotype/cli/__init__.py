"""The command line: a literal table of verbs; a verb's module is imported when it is called."""

import sys
from collections.abc import Sequence
from importlib import import_module

VERBS = {
    "run": ("run", "the whole chain on a folder of images (or `emoji`): train, sample, measure, report"),
    "data check": ("data", "what a folder holds, what is left out and why, and what it will cost"),
    "data make-scenes": (
        "make_scenes",
        "compose scenes with captions, boxes and label maps: data to try conditions on",
    ),
    "train": (
        "train",
        "train one stage by a preset: an autoencoder, a diffusion model on its latents, or a tiny decoder for previews",
    ),
    "ema": ("ema", "choose, after training, how long the average of a model's weights is"),
    "latents": ("latents", "encode a folder with an autoencoder, once"),
    "sample": ("sample", "draw images with a trained model (or the embedded one: `emoji`)"),
    "img2img": ("img2img", "draw a picture anew: all of it by some strength, or what a mask leaves open"),
    "inpaint": ("inpaint", "fill in a part of a picture, or draw on beyond its borders"),
    "upscale": ("upscale", "enlarge pictures of any size with a model that was trained to"),
    "layout": ("layout", "draw objects in boxes with a model that was trained to"),
    "semantic": ("semantic", "draw label maps of any size with a model that was trained to"),
    "variations": ("variations", "draw images that are like a given one"),
    "retrieve": ("retrieve", "draw images with their nearest neighbours in a data base at hand"),
    "retrieve index": ("retrieve_index", "make such a data base of a folder of images"),
    "interpolate": ("interpolate", "draw the way from one seed, or picture, to another"),
    "reconstruct": ("reconstruct", "pass images through an autoencoder and save what comes back"),
    "evaluate": ("evaluate", "measure a trained model against images"),
    "convert": ("convert", "open checkpoints of the original or of diffusers, and write such files"),
    "presets": ("presets", "list the presets"),
}
USAGE, INTERNAL = 2, 1


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 0, or 2 for a mistake of the user's, which is told in one line."""
    sys.exit(run(sys.argv[1:] if argv is None else list(argv)))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        from calotype import __version__

        print(__version__)
        return 0
    words = 2 if " ".join(arguments[:2]) in VERBS else 1
    verb = " ".join(arguments[:words])
    if verb not in VERBS:
        from calotype.utils.errors import nearest

        print(f"calotype: unknown verb {verb!r}.{nearest(verb, VERBS)} `calotype --help` lists them", file=sys.stderr)
        return USAGE
    from calotype.cli.command import execute

    return execute(verb, import_module(f"calotype.cli.{VERBS[verb][0]}").command, arguments[words:])


def _overview() -> str:
    width = max(len(verb) for verb in VERBS)
    rows = "\n".join(f"  {verb.ljust(width)}  {summary}" for verb, (_, summary) in VERBS.items())
    return (
        "calotype trains and runs latent diffusion models on your own images.\n\n"
        f"usage: calotype VERB ...\n\n{rows}\n\n"
        "`calotype VERB --help` explains a verb. A start:\n\n"
        '  calotype sample emoji --caption "a red apple, 3d style" --grid apple.png\n'
        "  calotype run PHOTOS --out runs/mine\n"
    )
