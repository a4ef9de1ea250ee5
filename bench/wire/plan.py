"""What is measured, on whom, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Seconds of one measurement and of the warm-up before it, the sizes of things, and how many turns a round has."""

    seconds: float = 1.0
    warm: float = 0.3
    streams: int = 64
    paced_interval: float = 0.02
    mixed_streams: int = 16
    mixed_interval: float = 0.005
    small_bytes: int = 1 * MB
    large_bytes: int = 16 * MB
    vectors: int = 10_000
    turns: int = 40


FULL = Settings()
QUICK = Settings(
    seconds=0.12,
    warm=0.05,
    streams=8,
    mixed_streams=4,
    small_bytes=MB // 16,
    large_bytes=MB,
    vectors=100,
    turns=2,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of a test; ``key`` names it in the results file."""

    key: str
    title: str
    more_is_better: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """The first metric is the one by which the faster rival is chosen; ``ratios`` are those worth comparing.

    ``in_turn``: all cases are there at once and make one call after the other.
    """

    title: str
    metrics: tuple[Metric, ...]
    ratios: tuple[str, ...]
    in_turn: bool = False


_P50 = Metric(key="p50_us", title="p50 µs", more_is_better=False)
_P99 = Metric(key="p99_us", title="p99 µs", more_is_better=False)
_RATE = Metric(key="tokens_per_s", title="tokens/s", more_is_better=True)
_BULK = Metric(key="gb_per_s", title="GB/s", more_is_better=True)
_MERGED = Metric(key="tokens_per_chunk", title="tokens/chunk", more_is_better=False)


def _cpu(unit: str) -> tuple[Metric, ...]:
    return (
        Metric(key="cpu", title=f"CPU {unit}", more_is_better=False),
        Metric(key="cpu_server", title="server", more_is_better=False),
        Metric(key="cpu_client", title="client", more_is_better=False),
    )


_TOKEN = _cpu("µs/token")

TESTS = {
    "round_trip": Test(
        title="Round trip: a call of ~50 bytes and its answer",
        metrics=(_P50, _P99, *_cpu("µs/call")),
        ratios=("p50_us", "cpu"),
    ),
    "ping": Test(title="Round trip: PING", metrics=(_P50, _P99, *_cpu("µs/ping")), ratios=("p50_us",)),
    "stream_1": Test(
        title="1 stream, flat out", metrics=(_RATE, *_TOKEN, _MERGED), ratios=("tokens_per_s", "cpu")
    ),
    "stream_64": Test(
        title="64 streams, flat out", metrics=(_RATE, *_TOKEN, _MERGED), ratios=("tokens_per_s", "cpu")
    ),
    "paced_64": Test(
        title="64 streams of 50 tokens/s", metrics=(_P50, _P99, _RATE, *_TOKEN), ratios=("p50_us", "cpu")
    ),
    "bulk_1mb": Test(
        title="1 MB float32 arrays", metrics=(_BULK, *_cpu("ms/MB")), ratios=("gb_per_s", "cpu")
    ),
    "bulk_16mb": Test(
        title="16 MB float32 arrays", metrics=(_BULK, *_cpu("ms/MB")), ratios=("gb_per_s", "cpu")
    ),
    "vectors": Test(
        title="10,000 vectors of 384 float32, one call after the other",
        metrics=(_BULK, Metric(key="ms", title="ms/call", more_is_better=False), *_cpu("ms/MB")),
        ratios=("gb_per_s", "cpu"),
        in_turn=True,
    ),
    "mixed": Test(
        title="16 streams of 200 tokens/s beside 16 MB arrays, one connection",
        metrics=(_P50, _P99, _RATE, _BULK),
        ratios=("p50_us", "gb_per_s"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One test of one case in one round, or in one turn."""

    round: int
    test: str
    case: str
    result: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A design. ``server`` and ``client`` are modules of this folder; ``needs`` what they import beyond the host extra."""

    title: str
    server: str
    client: str
    variant: str = ""
    needs: tuple[str, ...] = ()
    tests: frozenset[str]


_TOKENS = frozenset({"round_trip", "stream_1", "stream_64", "paced_64"})
_BULKS = frozenset({"bulk_1mb", "bulk_16mb"})
_VECTORS = frozenset({"vectors"})
_ALL = _TOKENS | _BULKS
_BRIDGE = _ALL | {"ping", "mixed"}
_GRPC = ("grpc",)
_SSE = ("uvicorn", "httptools", "httpx")

CASES = {
    "floor": Case(
        title="blocking sockets, the floor",
        server="floor_server",
        client="floor_client",
        tests=_TOKENS | _BULKS | _VECTORS,
    ),
    "floor-relay": Case(
        title="blocking sockets, two one behind the other",
        server="relay_server",
        client="floor_client",
        tests=_VECTORS,
    ),
    "bridge": Case(
        title="mlxbridge, Client", server="bridge_server", client="bridge_client", tests=_BRIDGE | _VECTORS
    ),
    "bridge-worker": Case(
        title="mlxbridge, Client, from a worker process",
        server="bridge_worker_server",
        client="bridge_client",
        tests=_VECTORS,
    ),
    "bridge-async": Case(
        title="mlxbridge, AsyncClient", server="bridge_server", client="bridge_async", tests=_BRIDGE
    ),
    "bridge-uvloop": Case(
        title="mlxbridge, AsyncClient on uvloop",
        server="bridge_server",
        client="bridge_async",
        variant="uvloop",
        tests=_BRIDGE,
    ),
    "grpc-json": Case(
        title="JSON over gRPC, sync client",
        server="grpc_server",
        client="grpc_client",
        needs=_GRPC,
        tests=_ALL | _VECTORS,
    ),
    "grpc-json-aio": Case(
        title="JSON over gRPC, aio client", server="grpc_server", client="grpc_async", needs=_GRPC, tests=_ALL
    ),
    "grpc-bytes": Case(
        title="raw bytes over gRPC, sync client",
        server="grpc_server",
        client="grpc_client",
        variant="bytes",
        needs=_GRPC,
        tests=_BULKS | {"mixed"},
    ),
    "openai-json": Case(
        title="OpenAI's JSON floats, uvicorn to httpx",
        server="sse_server",
        client="openai_client",
        needs=_SSE,
        tests=_VECTORS,
    ),
    "sse": Case(
        title="SSE, uvicorn to httpx",
        server="sse_server",
        client="sse_client",
        needs=_SSE,
        tests=_TOKENS | _BULKS,
    ),
    "sse-bare": Case(
        title="SSE, uvicorn to a bare reader",
        server="sse_server",
        client="sse_bare",
        needs=_SSE[:2],
        tests=_TOKENS - {"round_trip"},
    ),
}

FLOOR = "floor"
RELAY = "floor-relay"
"""The floor of what goes through two sockets."""

RIVALS = ("grpc-json", "grpc-json-aio")
"""Of these, the faster one of each round is what the others are compared with."""
