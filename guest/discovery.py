"""Which host to call, and with which token."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from mlxbridge.addresses import (
    DEFAULT_PORT,
    Address,
    TcpAddress,
    UnixAddress,
    VsockAddress,
    parse_addresses,
)
from mlxbridge.errors import BridgeError, HostNotFound, TransportError, UsageError
from mlxbridge.protocol.handshake import Token, parse_token
from mlxbridge.transport import names

if TYPE_CHECKING:
    from concurrent.futures import Future

SEARCH_S = 3.0
"""For all places together, where nobody has named one; the next three are parts of it."""
_SOCKET_S = 2.0  # launchd and systemd accept at once, and start the host then
_VSOCK_S = 1.0
_LOOK_UP_S = 1.5
_HOST_CID = 2  # vsock(7): VMADDR_CID_HOST
_ROUTES = "/proc/net/route"

HOST_NAMES = (
    "host.docker.internal",
    "host.containers.internal",
    "host.container.internal",
    "host.lima.internal",
    "host.orb.internal",
)
"""What container and VM runtimes call the machine around them."""

_WIRING = """Start one on the host with `mlxbridge-host serve`, and lead its socket in here:
  Apple container    container run -v ~/.mlxbridge/run/mlxbridge.sock:/run/mlxbridge.sock …
  VM (vfkit, krunkit)  --device virtio-vsock,port=2048,socketURL=$HOME/.mlxbridge/run/mlxbridge.sock,listen
  Lima               portForwards: [{guestSocket: /run/user/{{.UID}}/mlxbridge.sock, hostSocket: …/mlxbridge.sock, reverse: true}]
  Linux host         docker run -v /run/mlxbridge:/run/mlxbridge …   (podman the same)
Over TCP (`mlxbridge-host serve --listen tcp:127.0.0.1:2048` and a token, then MLXBRIDGE_TOKEN here):
  Docker Desktop, OrbStack, Colima   MLXBRIDGE_URL=tcp://host.docker.internal:2048
  Podman machine                     MLXBRIDGE_URL=tcp://host.containers.internal:2048
  Lima                               MLXBRIDGE_URL=tcp://host.lima.internal:2048"""


class Place(NamedTuple):
    """Where a host may be.

    Attributes:
        address: how to get there.
        within_s: seconds for connecting and the host's HELLO; None: what the client allows for each.
        name: what the address was looked up for.
        failure: why it need not be tried.
    """

    address: Address
    within_s: float | None = None
    name: str | None = None
    failure: TransportError | None = None

    def __str__(self) -> str:
        return str(self.address) if self.name is None else f"{self.address} ({self.name})"


class Lookups(NamedTuple):
    """Host names that are being looked up, side by side; to be waited for before the next place is asked for.

    Attributes:
        found: by name.
        within_s: seconds to wait for them.
    """

    found: dict[str, Future[names.Found]]
    within_s: float


class Search:
    """The places where a host may be, in order: what was named, else sockets, vsock and the runtimes' host names."""

    def __init__(self, url: str | None) -> None:
        """Take ``url`` (a comma list), else ``MLXBRIDGE_URL``.

        Raises:
            UsageError: an address cannot be read.
        """
        named = url or os.environ.get("MLXBRIDGE_URL")
        self._named = parse_addresses(named) if named else ()

    def places(self, deadline: float | None = None) -> Iterator[Place | Lookups]:
        """Where to look next, until a host has answered.

        Args:
            deadline: of ``time.monotonic``, for all of them: each has a share of what is left, lest one that stays silent
                keep the next from being tried.
        """
        return self._named_places(deadline) if self._named else self._usual_places(deadline)

    def _named_places(self, deadline: float | None) -> Iterator[Place]:
        for number, address in enumerate(self._named):
            if deadline is None:
                yield Place(address)
            else:
                yield _within(address, (deadline - monotonic()) / (len(self._named) - number), deadline)

    def _usual_places(self, deadline: float | None) -> Iterator[Place | Lookups]:
        start = monotonic()
        budget_s = SEARCH_S if deadline is None else max(0.0, min(SEARCH_S, deadline - start))
        end, share = start + budget_s, budget_s / SEARCH_S
        for path in usual_sockets():
            if _is_socket(path):
                yield _within(UnixAddress(path), share * _SOCKET_S, end)
            else:
                yield Place(UnixAddress(path), failure=TransportError("there is no such socket"))
        if sys.platform == "linux":
            yield _within(VsockAddress(_HOST_CID, DEFAULT_PORT), share * _VSOCK_S, end)
        found = {name: names.look_up(name, DEFAULT_PORT) for name in HOST_NAMES}
        yield Lookups(found, max(0.0, min(share * _LOOK_UP_S, end - monotonic())))
        for name, addresses in found.items():
            yield from _resolved(name, addresses, end)
        if os.environ.get("MLXBRIDGE_TRY_GATEWAY", "") not in ("", "0"):
            yield _gateway(end)

    @property
    def advice(self) -> str:
        """What to do where no host has answered: the command lines of each runtime, unless addresses were named."""
        return "" if self._named else f"\n{_WIRING}"

    def nothing_answered(self, failures: list[tuple[Place, TransportError]]) -> TransportError:
        """The error for places of which none answered."""
        if self._named and len(failures) == 1:
            return failures[0][1]
        tried = "".join(f"\n  {place}: {reason(place, error)}" for place, error in failures)
        may_answer = any(error.retryable for _, error in failures)
        if self._named:
            return HostNotFound(f"none of {len(failures)} addresses answered:{tried}", retryable=may_answer)
        where = "MLXBRIDGE_URL is not set, and there is none where hosts usually are"
        return HostNotFound(f"no host found: {where}:{tried}{self.advice}", retryable=may_answer)


def reason(place: Place, failure: BridgeError) -> str:
    """Why there is no host at a place, without its name."""
    return failure.message.removeprefix(f"cannot connect to {place.address}: ")


def _within(address: Address, seconds: float, end: float, name: str | None = None) -> Place:
    left = min(seconds, end - monotonic())
    failure = None if left > 0 else TransportError("not tried: the time was up")
    return Place(address, left, name, failure)


def _resolved(name: str, found: Future[names.Found], end: float) -> Iterator[Place]:
    unknown = TcpAddress(name, DEFAULT_PORT)
    if not found.done():
        yield Place(unknown, failure=TransportError("the look-up of the name took too long"))
    elif found.exception() is not None:
        yield Place(unknown, failure=TransportError("there is no such name here"))
    else:
        hosts = dict.fromkeys(sockaddr[0] for _, sockaddr in found.result())
        for number, host in enumerate(hosts):
            share = (end - monotonic()) / (len(hosts) - number)
            yield _within(TcpAddress(host, DEFAULT_PORT), share, end, name)


def _gateway(end: float) -> Place:
    """The default gateway, which is the host in some networks and a stranger in others."""
    name = "the default gateway"
    try:
        with open(_ROUTES, encoding="ascii") as file:
            routes = [line.split() for line in file][1:]
    except OSError:
        routes = []
    for route in routes:
        if len(route) > 2 and route[1] == "00000000" and route[2] != "00000000":
            octets = bytes.fromhex(route[2])[:: 1 if sys.byteorder == "big" else -1]
            return _within(TcpAddress(".".join(map(str, octets)), DEFAULT_PORT), SEARCH_S, end, name)
    return Place(TcpAddress("0.0.0.0", DEFAULT_PORT), name=name, failure=TransportError("there is none"))


def usual_sockets() -> list[str]:
    """The socket paths that are looked at, in order; the last one is where a host listens by default."""
    paths = ["/run/mlxbridge.sock", "/run/mlxbridge/mlxbridge.sock"]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        paths.append(f"{runtime}/mlxbridge.sock")
    return [*paths, os.path.expanduser("~/.mlxbridge/run/mlxbridge.sock")]


def find_token(token: str | None) -> Token | None:
    """The token: ``token``, else ``MLXBRIDGE_TOKEN``, else the first in the file ``MLXBRIDGE_TOKEN_FILE``; None for none.

    A ``token`` that is empty is none, whatever the environment has. Empty lines of the file and lines that begin with ``#`` do not
    count.

    Raises:
        UsageError: it is not a token, or the file cannot be read.
    """
    if token == "":
        return None
    text = token or os.environ.get("MLXBRIDGE_TOKEN")
    path = os.environ.get("MLXBRIDGE_TOKEN_FILE")
    if not text and path:
        try:
            with open(path, encoding="utf-8") as file:
                text = next((line for line in map(str.strip, file) if line and not line.startswith("#")), "")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"MLXBRIDGE_TOKEN_FILE: cannot read {path}: {error}") from error
        if not text:
            raise UsageError(f"MLXBRIDGE_TOKEN_FILE: {path} has no token in it")
    return parse_token(text) if text else None


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
