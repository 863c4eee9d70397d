"""Folders of the diffusers library: our models as such, and such as our models. It need not be installed."""

from calotype.interop.diffusers.export import export_diffusers
from calotype.interop.diffusers.load import load_diffusers

__all__ = ["export_diffusers", "load_diffusers"]
