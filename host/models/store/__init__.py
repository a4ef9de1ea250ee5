"""The models on this machine, and those that can be had from the Hugging Face hub."""

from mlxbridge.host.models.store.hub import fetch, pull, resolve
from mlxbridge.host.models.store.source import DEMO, ModelSource, classify

__all__ = ["DEMO", "ModelSource", "classify", "fetch", "pull", "resolve"]
