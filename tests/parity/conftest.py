from pathlib import Path

import pytest

KEPT = Path(__file__).parent / "golden"
EVERY = Path(__file__).parents[3] / "shared" / "golden"
"""All recordings, where they lie beside the checkout; those kept here are some of them."""
DEFAULT = EVERY if EVERY.is_dir() else KEPT


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", metavar="DIR", default=str(DEFAULT), help="folder of golden tensors to compare with")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_file" not in metafunc.fixturenames:
        return
    folder = Path(metafunc.config.getoption("--golden", default=str(DEFAULT)))
    files = sorted({path.with_suffix("") for path in folder.glob("*") if path.suffix in (".json", ".safetensors")})
    if not files:
        raise pytest.UsageError(f"{folder} holds no golden files")
    metafunc.parametrize("golden_file", files, ids=[path.name for path in files])
