"""What engines find out about a model when they start takes longer than most of the tests' answers: found out once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any
from weakref import ref

import pytest

from mlxbridge.host.engine import batch
from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.drafts import speculation
from mlxbridge.host.engine.exactness import is_exact_in_batches, is_exact_over_drafts, is_exact_with_prefixes

PROBES: tuple[tuple[ModuleType, Callable[..., bool]], ...] = (
    (batch, is_exact_in_batches),
    (batch, is_exact_with_prefixes),
    (speculation, is_exact_over_drafts),
)
# By model and all else that counts.
_found: dict[Hashable, tuple[ref[Any], bool]] = {}


@pytest.fixture(autouse=True)
def models_are_probed_once() -> Iterator[None]:
    """For conftest: engines that start on a model and caches of which this is known go by what was found then."""
    with pytest.MonkeyPatch.context() as monkeypatch:  # not the test's own, which may be undone in its middle
        for owner, probe in PROBES:
            monkeypatch.setattr(owner, probe.__name__, _remembered(probe))
        yield


def _remembered(probe: Callable[..., bool]) -> Callable[..., bool]:
    @wraps(probe)
    def probe_unless_known(plan: CachePlan, *arguments: Hashable, **options: Hashable) -> bool:
        model, kind = plan.model, type(plan.model)
        # A model that a test has made do something else is another one.
        own = id(model), kind.__call__, getattr(kind, "make_cache", None), plan.quantization, plan.window
        key = probe, own, arguments, *options.items()
        known, result = _found.get(key, (None, False))
        if known is None or known() is not model:
            result = probe(plan, *arguments, **options)
            _found[key] = ref(model), result
        return result

    return probe_unless_known
