"""The models on this machine, and those that can be had from the Hugging Face hub."""

from mlxbridge.host.models.store.cache import (
    CachedModel,
    delete_cached,
    find_cached,
    list_cached,
    list_pulled,
    mark_pulled,
)
from mlxbridge.host.models.store.facts import disk_bytes, read_facts
from mlxbridge.host.models.store.hub import cached, fetch, pull, resolve
from mlxbridge.host.models.store.source import DEMO, ModelSource, classify, hub_source

__all__ = [
    "DEMO",
    "CachedModel",
    "ModelSource",
    "cached",
    "classify",
    "delete_cached",
    "disk_bytes",
    "fetch",
    "find_cached",
    "hub_source",
    "list_cached",
    "list_pulled",
    "mark_pulled",
    "pull",
    "read_facts",
    "resolve",
]
