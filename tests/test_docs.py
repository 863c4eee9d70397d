"""What the documentation says is there is there: files, functions, tests, names, verbs and options."""

import ast
import functools
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import calotype as ct
import tiny
from calotype import cli
from calotype.artifact import write_artifact
from calotype.cli.command import execute
from calotype.conditioner import ConditionerConfig
from calotype.utils.config import to_dict

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "calotype"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/tutorials").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
NAMED = re.compile(r"([\w/-]+\.py):([\w.]+)")
USERS_OWN = ("runs/", "photos/")

each_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def inline(page: Path) -> list[str]:
    """The pieces of code within sentences."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text(page)))


def fenced(page: Path, language: str = "") -> list[str]:
    return [code for kind, code in FENCE.findall(text(page)) if kind == language]


def is_path(code: str) -> bool:
    if not PATH.fullmatch(code) or code.startswith(USERS_OWN):
        return False
    return "/" in code or code.endswith((".py", ".md", ".toml"))


def found(path: str) -> list[Path]:
    """What a path, with wildcards, stands for: below the repository or the package."""
    return [hit for folder in (ROOT, SOURCES) for hit in folder.glob(path.rstrip("/"))]


def defined(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Every function, method and class of a module, as ``Class.method``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from defined(node, f"{prefix}{node.name}.")


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    return frozenset(defined(ast.parse(text(path))))


@each_page
def test_files_exist(page: Path) -> None:
    missing = [code for code in inline(page) if is_path(code) and not found(code)]
    links = re.findall(r"\]\(([^)#]+)\)", text(page))
    missing += [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@each_page
def test_functions_and_tests_exist(page: Path) -> None:
    missing, tests = [], frozenset[str]()
    for code in inline(page):
        if match := NAMED.fullmatch(code):
            files = found(match[1])
            missing += [] if files and match[2] in names_in(files[0]) else [code]
        elif code.startswith("tests/") and code.endswith(".py"):
            tests = names_in(ROOT / code)
        elif re.fullmatch(r"test_\w+", code) and code not in tests:
            missing.append(code)
    assert not missing


@each_page
def test_public_names_exist(page: Path) -> None:
    assert set(re.findall(r"\bct\.(\w+)", text(page))) <= set(ct.__all__)


@each_page
def test_verbs_and_make_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.MULTILINE)
    commands = [*inline(page), *"\n".join(fenced(page)).splitlines()]
    for command in commands:
        words = command.split()
        if words[:1] == ["make"] and len(words) > 1:
            assert words[1] in targets, command
        elif words[:1] == ["calotype"]:
            assert words[1] in cli.VERBS or " ".join(words[1:3]) in cli.VERBS, command


def readme_commands() -> list[list[str]]:
    """The arguments of every call of the command line in README.md."""
    lines = [shlex.split(line, comments=True) for block in fenced(ROOT / "README.md") for line in block.splitlines()]
    direct = [words[1:] for words in lines if words[:1] == ["calotype"]]
    return direct + [words[words.index("calotype.cli") + 1 :] for words in lines if "calotype.cli" in words]


@pytest.mark.parametrize("arguments", readme_commands(), ids=" ".join)
def test_the_readmes_commands_are_accepted(arguments: list[str]) -> None:
    """Parsed by the real parser; nothing runs."""
    verb = next(verb for verb in cli.VERBS if arguments[: len(verb.split())] == verb.split())
    command, calls = import_module(f"calotype.cli.{cli.VERBS[verb][0]}").command, []
    parsed = functools.wraps(command)(lambda *values, **options: calls.append((values, options)))
    assert execute(verb, parsed, arguments[len(verb.split()) :]) == 0
    assert len(calls) == 1


def untrained(folder: Path) -> None:
    """A small text-to-image model with random weights."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {"autoencoder": tiny.AUTOENCODER, "network": tiny.NETWORK}
    parts["conditioner"] = ConditionerConfig(embedders=(tiny.TEXT,))
    config = {
        **{name: to_dict(part) for name, part in parts.items()},
        "schedule": to_dict(ct.Flow()),
        "prediction": "flow",
        "pixel_format": to_dict(ct.PixelFormat()),
        "size": tiny.SIZE,
        "latent": {"shift": [0.0] * 4, "scale": [1.0] * 4},
    }
    modules = {name: part.build() for name, part in parts.items()}
    nn.init.normal_(modules["network"].out[2].weight, std=0.1)
    states = {name: module.state_dict() for name, module in modules.items()}
    write_artifact(folder, kind="latent_diffusion", config=config, components=states, provenance={})


def test_the_readmes_python_runs_and_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untrained(tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    (block,) = fenced(ROOT / "README.md", "python")
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    short = ct.load("runs/mine").sample(caption=["an owl, flat style"] * 4, seeds=range(4), guidance=ct.CFG(3.0))
    assert short.shape == (4, 3, tiny.SIZE, tiny.SIZE)
    torch.testing.assert_close(names["images"], short, rtol=0, atol=1e-5)
    assert short.std() > 0.01


def test_the_embedder_of_ones_own_runs() -> None:
    (block,) = fenced(ROOT / "docs" / "conditioning.md", "python")
    names: dict[str, Any] = {"__name__": "conditioning"}
    exec(compile(block, "conditioning.md", "exec"), names)
    assert names["condition"].vector.tolist() == [[0.5], [0.0]]


def test_the_picture_of_the_rooms_is_the_contract() -> None:
    contracts = tomllib.loads(text(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    (picture,) = [block for block in fenced(ROOT / "ARCHITECTURE.md") if block.startswith("cli ")]
    drawn = [re.split(r" {2,}", line)[0] for line in picture.splitlines()]
    assert drawn == [layer.replace("calotype.", "") for layer in layers]
