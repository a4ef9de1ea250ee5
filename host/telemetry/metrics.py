"""The host's metrics for Prometheus. Labels are few: models that are configured, methods, states, and how calls end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlxbridge.errors import UnknownMethod
from mlxbridge.host.telemetry.request import EndedRequest

OTHER = "other"
"""The label of models that guests have pulled, and of methods that there are none of."""

_WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_REQUEST_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)

_GAUGES = {
    "running": ("calls_running", "Calls that the model computes."),
    "waiting": ("calls_waiting", "Calls that wait for their turn at the model."),
    "queued": ("calls_queued", "Calls that wait for the model to be ready."),
    "tokens_per_s": ("tokens_per_second", "Tokens of all its calls in the last 10 seconds, by 10."),
    "used_bytes": ("model_memory_bytes", "Memory that the model's process has taken."),
    "reserved_bytes": ("model_memory_reserved_bytes", "Memory that the model may take."),
}
_MEMORY = {
    "total_bytes": "Memory of the machine, or of a card with memory of its own.",
    "budget_bytes": "Memory that models may take together.",
    "reserved_bytes": "Memory that those that are loaded may take.",
    "used_bytes": "Memory that they have taken.",
}


class Metrics:
    """Owns the registry.

    Args:
        is_configured: whether a model of that name is, or was, and so has a label of its own.
    """

    def __init__(self, is_configured: Callable[[str], bool]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._is_configured = is_configured
        self._registry = registry = CollectorRegistry()
        self._now = _Now(is_configured)
        registry.register(self._now)
        self._requests = Counter(
            "mlxbridge_requests",
            "Calls that have ended, by how: a reason to finish, the name of an error, or ok.",
            ("model", "method", "outcome"),
            registry=registry,
        )
        tokens = {
            "prompt_tokens": "Tokens of prompts and inputs of calls that ended well.",
            "cached_tokens": "Those of them that were not read anew.",
            "completion_tokens": "Tokens that these calls were answered with.",
        }
        self._tokens = {
            name: Counter(f"mlxbridge_{name}", text, ("model",), registry=registry)
            for name, text in tokens.items()
        }
        self._request_seconds = self._histogram(
            "request_seconds", "From a call's arrival to its end.", _REQUEST_BUCKETS, "method"
        )
        self._ttft = self._histogram(
            "time_to_first_token_seconds",
            "From a call's arrival to its first token, with what its model took to load.",
            _WAIT_BUCKETS,
        )
        self._queue = self._histogram(
            "queue_seconds", "What a call waited for its turn at its model's process.", _WAIT_BUCKETS
        )
        self._token_seconds = self._histogram(
            "time_per_token_seconds", "Of a call's tokens behind the first, on average.", _TOKEN_BUCKETS
        )

    def note(self, ended: EndedRequest) -> None:
        """A call has ended."""
        model = self._label(ended.request.model)
        method = OTHER if isinstance(ended.error, UnknownMethod) else ended.request.method
        self._requests.labels(model, method, ended.outcome).inc()
        self._request_seconds.labels(model, method).observe(ended.seconds)
        for name, counter in self._tokens.items():
            if count := getattr(ended, name):
                counter.labels(model).inc(count)
        if (ttft := ended.time_to_first_token) is not None:
            self._ttft.labels(model).observe(ttft)
        if ended.queue_seconds is not None:
            self._queue.labels(model).observe(ended.queue_seconds)
        if (speed := ended.tokens_per_second) is not None:
            self._token_seconds.labels(model).observe(1 / speed)

    async def render(self, status: Mapping[str, Any]) -> bytes:
        """All metrics, in Prometheus' text format; the loop has its turn between one and the next.

        Args:
            status: the RESULT of ``status`` (SPEC.md §10), now.
        """
        self._now.status = status
        parts = []
        for metric in list(self._registry.collect()):
            parts.append(generate_latest(_Single(metric)))
            await asyncio.sleep(0)
        return b"".join(parts)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *more_labels: str) -> Histogram:
        labels = ("model", *more_labels)
        return Histogram(f"mlxbridge_{name}", text, labels, buckets=buckets, registry=self._registry)

    def _label(self, model: str | None) -> str:
        if model is None:
            return ""
        return model if self._is_configured(model) else OTHER


class _Single(CollectorRegistry):
    """One metric, to be rendered."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


class _Now(Collector):
    """What is measured when somebody asks."""

    def __init__(self, is_configured: Callable[[str], bool]) -> None:
        self._is_configured = is_configured
        self.status: Mapping[str, Any] = {}

    def collect(self) -> Iterator[Metric]:
        status = self.status
        if not status:
            return  # the registry asks once for names alone
        yield _gauge("uptime_seconds", "Since the host was started.", status["uptime_ms"] / 1000)
        yield _gauge("connections", "Guests that are connected.", status["connections"])
        yield _gauge("calls", "Calls that are open, of any method.", status["calls"])
        for key, text in _MEMORY.items():
            if key in status["memory"]:
                yield _gauge(f"memory_{key}", text, status["memory"][key])
        models = [model for model in status["models"] if self._is_configured(model["name"])]
        state = GaugeMetricFamily(
            "mlxbridge_model_state", "1 for the state that the model is in.", labels=("model", "state")
        )
        restarts = CounterMetricFamily(
            "mlxbridge_model_restarts", "Times that the model's process was started again.", labels=("model",)
        )
        for model in models:
            state.add_metric((model["name"], model["state"]), 1)
            restarts.add_metric((model["name"],), model.get("restarts", 0))
        yield state
        yield restarts
        for key, (name, text) in _GAUGES.items():
            family = GaugeMetricFamily(f"mlxbridge_{name}", text, labels=("model",))
            for model in models:
                if key in model:
                    family.add_metric((model["name"],), model[key])
            yield family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"mlxbridge_{name}", text, value=value)
