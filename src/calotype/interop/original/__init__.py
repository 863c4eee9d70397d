"""The original's files: its checkpoints and YAML configurations as our models, and ours as such files.

``original_config`` reads a configuration, ``original_keys`` says what a checkpoint of it holds, ``load_original`` opens
one, and ``save_original`` writes one.
"""

from calotype.interop.original.config import OriginalConfig, OriginalDiffusion, original_config
from calotype.interop.original.keys import original_keys
from calotype.interop.original.load import load_original
from calotype.interop.original.report import Report
from calotype.interop.original.save import save_original

__all__ = [
    "OriginalConfig",
    "OriginalDiffusion",
    "Report",
    "load_original",
    "original_config",
    "original_keys",
    "save_original",
]
