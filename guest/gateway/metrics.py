"""The gateway's metrics for Prometheus. Labels are few: paths as routes have them, callers of the keys file, the host's models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric

from mlxbridge.guest.gateway.record import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
"""The label of models that the host is not known to have."""
MAX_MODELS = 256
"""With labels of their own: where callers may pull models, names would go on for ever."""

_SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
_TTFT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_RATES = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)


class Metrics:
    """Owns the registry, and knows which models have labels of their own: those that the host lists or has answered with."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._models: set[str] = set()
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "mlxbridge_gateway_requests",
            "Requests that have ended; 499: the client went before there was an answer.",
            ("api", "path", "status", "caller", "model"),
            registry=registry,
        )
        self._cut = Counter(
            "mlxbridge_gateway_requests_cut",
            "Those of them whose response was not sent whole: the client went, or the gateway was stopped.",
            ("api", "path", "caller", "model"),
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "mlxbridge_gateway_prompt_tokens",
            "Tokens of prompts and inputs of requests that were answered.",
            ("caller", "model"),
            registry=registry,
        )
        self._completion_tokens = Counter(
            "mlxbridge_gateway_completion_tokens",
            "Tokens that were generated, those of requests that were cut among them.",
            ("caller", "model"),
            registry=registry,
        )
        self._seconds = Histogram(
            "mlxbridge_gateway_request_seconds",
            "From a request's first line to the end of its response.",
            ("api", "path"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._ttft = Histogram(
            "mlxbridge_gateway_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            ("model",),
            buckets=_TTFT,
            registry=registry,
        )
        self._rate = Histogram(
            "mlxbridge_gateway_tokens_per_second",
            "Of a request's tokens behind the first; of several answers together.",
            ("model",),
            buckets=_RATES,
            registry=registry,
        )
        self._under_way = Gauge(
            "mlxbridge_gateway_requests_under_way",
            "Requests that are not answered yet, or not wholly.",
            registry=registry,
        )
        self._in_flight = Gauge(
            "mlxbridge_gateway_requests_in_flight",
            "Those of them that count against their caller's max_in_flight.",
            ("caller",),
            registry=registry,
        )
        self._event_streams = Gauge(
            "mlxbridge_gateway_event_streams",
            "Streams of events that are read.",
            ("caller",),
            registry=registry,
        )
        self._host_up = Gauge(
            "mlxbridge_gateway_host_up", "1 if the host answers, else 0.", registry=registry
        )

    def begin(self) -> None:
        """A request has come."""
        self._under_way.inc()

    def note(self, record: Record) -> None:
        """And has ended."""
        self._under_way.dec()
        if record.model and 200 <= record.status < 300:
            self._know([record.model])
        model = record.model if not record.model or record.model in self._models else OTHER
        place = record.api, record.route
        self._requests.labels(*place, str(record.status), record.caller, model).inc()
        self._seconds.labels(*place).observe(record.seconds)
        if record.is_cut:
            self._cut.labels(*place, record.caller, model).inc()
        if record.prompt_tokens:
            self._prompt_tokens.labels(record.caller, model).inc(record.prompt_tokens)
        if record.completion_tokens:
            self._completion_tokens.labels(record.caller, model).inc(record.completion_tokens)
        if record.ttft_s is not None:
            self._ttft.labels(model).observe(record.ttft_s)
        if (rate := record.tokens_per_second) is not None:
            self._rate.labels(model).observe(rate)

    async def render(
        self, in_flight: Mapping[str, int], event_streams: Mapping[str, int], models: Iterable[str] | None
    ) -> bytes:
        """All metrics, in Prometheus' text format; the loop has its turn between one and the next.

        Args:
            in_flight, event_streams: how many there are now, by caller.
            models: that the host lists; None: it does not answer.
        """
        self._host_up.set(models is not None)
        self._know(models or ())
        for gauge, counts in ((self._in_flight, in_flight), (self._event_streams, event_streams)):
            gauge.clear()
            for caller, count in counts.items():
                gauge.labels(caller).set(count)
        parts = []
        for metric in list(self._registry.collect()):
            parts.append(generate_latest(_Single(metric)))
            await asyncio.sleep(0)
        return b"".join(parts)

    def _know(self, models: Iterable[str]) -> None:
        for model in models:
            if len(self._models) < MAX_MODELS:
                self._models.add(model)


class _Single(CollectorRegistry):
    """One metric, to be rendered."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric
