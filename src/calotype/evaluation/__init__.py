"""Measured quality: reconstruction, latents and generation, agreement with captions, memorisation, the report.

Names are imported on first use, so that ``import calotype.evaluation`` costs nothing and needs no extra.
"""

import importlib
from typing import Any

_MODULES = {
    "agreement": ("Agreement", "caption_agreement", "label_agreement"),
    "autoencoder": ("AutoencoderEvaluation", "Pair", "evaluate_autoencoder"),
    "autoencoder_report": ("build_report", "evaluation_rows", "text_table", "worst_cases", "write_evaluation"),
    "diffusability": ("DiffusabilityProbe",),
    "frechet": (
        "FRECHET_NAME",
        "KERNEL_NAME",
        "KernelDistance",
        "frechet_distance",
        "kernel_distance",
        "paired_kernel_distance",
    ),
    "generation": ("FeatureSet", "generation_metrics"),
    "inception_features": ("InceptionFeatures",),
    "instruments": ("Instruments", "load_instruments"),
    "latents": ("CodeUse", "LatentStatistics"),
    "likelihood": ("evaluate_likelihood", "likelihood_rows"),
    "nearest": ("Memorisation", "Nearest", "memorisation", "nearest_features", "nearest_images"),
    "plots": ("histogram", "loss_curves", "spectra"),
    "reconstruction": ("psnr", "reconstruction_metrics", "ssim"),
    "reconstruction_sets": ("reconstruction_distances",),
    "report": ("Fact", "Picture", "Report", "Section", "Table", "side_by_side"),
    "spectrum": ("PowerSpectrum", "low_pass"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
