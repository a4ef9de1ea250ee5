"""HELLO heads and the mutual proof of a shared token (SPEC.md §5).

Both proofs are HMAC-SHA256 keyed with the token, over a label of the direction and *both* HELLO heads as they were on
the wire, so neither side's limits or version can be changed under way, and a proof fits one connection only. The host
proves first: a guest that dialled the wrong host gives away nothing but its name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlxbridge.errors import AuthenticationError, RemoteProtocolError, UsageError, VersionMismatch
from mlxbridge.protocol.events import PeerInfo
from mlxbridge.protocol.limits import Limits

VERSION_MIN = 1
VERSION_MAX = 1
NONCE_BYTES = 32
PROOF_BYTES = 32
AUTH_NONE = "none"
AUTH_HMAC = "hmac-sha256"
DEFAULT_IDENTITY = "default"
MIN_SECRET_BYTES = 8
MAX_IDENTITY_CHARS = 64

CHECKSUM = "checksum"
RESUME = "resume"
"""Features."""

LINK_BYTES = 16
LINK_SECRET_BYTES = 32

_GUEST_LABEL = b"mlxbridge guest proof"
_HOST_LABEL = b"mlxbridge host proof"


@dataclass(frozen=True, slots=True)
class Token:
    """A shared secret and the guest name it belongs to. The name crosses the wire, the secret never does."""

    identity: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Token({self.identity!r})"


@dataclass(frozen=True, slots=True)
class Resumption:
    """With what a guest can come back to a connection that was cut, and for how long."""

    link: bytes
    secret: bytes = field(repr=False)
    grace_ms: int

    def to_wire(self) -> dict[str, Any]:
        """The map under ``resume`` in READY."""
        return {"link": self.link, "secret": self.secret, "grace_ms": self.grace_ms}

    @classmethod
    def from_wire(cls, value: Any) -> Resumption | None:
        """What READY says, None if it says nothing.

        Raises:
            RemoteProtocolError: it is no such map.
        """
        if value is None:
            return None
        link, secret, grace_ms = read_fields(value, "READY: resume", link=bytes, secret=bytes, grace_ms=int)
        return cls(link, secret, grace_ms)


def read_fields(value: Any, what: str, **types: type) -> list[Any]:
    """Members of a map, by name.

    Raises:
        RemoteProtocolError: it is no map, or one of them is missing or has another type, or is below 0.
    """
    fields = [value.get(name) for name in types] if isinstance(value, dict) else []
    right = [*map(type, fields)] == [*types.values()]
    if not right or any(isinstance(member, int) and member < 0 for member in fields):
        raise RemoteProtocolError(f"{what} must be a map with {', '.join(types)}")
    return fields


def parse_token(text: str) -> Token:
    """``NAME:SECRET``, or a bare ``SECRET`` whose name is ``default``.

    Raises:
        UsageError: an empty name, or a secret under 8 bytes (use ``openssl rand -hex 32``).
    """
    name, colon, secret = text.strip().partition(":")
    identity, secret = (name, secret) if colon else (DEFAULT_IDENTITY, name)
    if not 0 < len(identity) <= MAX_IDENTITY_CHARS or not identity.isprintable():
        raise UsageError(f"token: the name before ':' must be 1 to {MAX_IDENTITY_CHARS} printable characters")
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise UsageError(
            f"token: the secret must have at least {MIN_SECRET_BYTES} bytes; make one with `openssl rand -hex 32`"
        )
    return Token(identity, secret.encode())


def decoy_secret(tokens: Mapping[str, bytes], identity: str) -> bytes:
    """A key for a name the host does not know: always the same, and nothing on the wire gives it away."""
    known = b"".join(hashlib.sha256(tokens[name]).digest() for name in sorted(tokens))
    return hmac.digest(known, b"mlxbridge unknown guest" + identity.encode(), "sha256")


def guest_proof(secret: bytes, guest_head: bytes, host_head: bytes) -> bytes:
    """32 bytes that only a holder of the secret can make for these two HELLOs."""
    return _proof(secret, _GUEST_LABEL, guest_head, host_head)


def host_proof(secret: bytes, guest_head: bytes, host_head: bytes) -> bytes:
    """As ``guest_proof``, for the other direction."""
    return _proof(secret, _HOST_LABEL, guest_head, host_head)


def _proof(secret: bytes, label: bytes, guest_head: bytes, host_head: bytes) -> bytes:
    message = label + hashlib.sha256(guest_head).digest() + hashlib.sha256(host_head).digest()
    return hmac.digest(secret, message, "sha256")


def check_proof(expected: bytes, given: bytes) -> bool:
    """Constant-time comparison."""
    return hmac.compare_digest(expected, given)


def guest_hello(
    *,
    software: str,
    limits: Limits,
    features: frozenset[str],
    nonce: bytes,
    identity: str | None,
    passive: bool,
    resume: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The head of the guest's HELLO."""
    head: dict[str, Any] = {
        "versions": [VERSION_MIN, VERSION_MAX],
        "software": software,
        "features": sorted(features),
        "limits": limits.to_wire(),
        "nonce": nonce,
    }
    if identity is not None:
        head["identity"] = identity
    if passive:
        head["passive"] = True
    if resume is not None:
        head["resume"] = resume
    return head


def host_hello(
    *, version: int, software: str, limits: Limits, features: frozenset[str], nonce: bytes, auth: str
) -> dict[str, Any]:
    """The head of the host's HELLO."""
    return {
        "version": version,
        "software": software,
        "features": sorted(features),
        "limits": limits.to_wire(),
        "nonce": nonce,
        "auth": auth,
    }


def choose_version(head: Mapping[str, Any]) -> int:
    """The newest version both sides speak.

    Raises:
        VersionMismatch: there is none; the message names both ranges.
    """
    versions = head.get("versions")
    if not (isinstance(versions, list) and len(versions) == 2 and all(type(v) is int for v in versions)):
        raise RemoteProtocolError("HELLO: versions must be [lowest, highest]")
    low, high = versions
    chosen: int = min(high, VERSION_MAX)
    if chosen < max(low, VERSION_MIN):
        raise VersionMismatch(
            f"the guest speaks protocol {low} to {high}, the host {VERSION_MIN} to {VERSION_MAX}"
        )
    return chosen


def peer_info(head: Mapping[str, Any], version: int) -> PeerInfo:
    """Check the fields both HELLOs have in common.

    Raises:
        RemoteProtocolError: a field has the wrong type; the message names it.
    """
    software, features, nonce = head.get("software"), head.get("features", []), head.get("nonce")
    if not isinstance(software, str):
        raise RemoteProtocolError("HELLO: software must be a string")
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise RemoteProtocolError("HELLO: features must be a list of strings")
    if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
        raise RemoteProtocolError(f"HELLO: nonce must be {NONCE_BYTES} bytes")
    limits = Limits.from_wire(head.get("limits", {}))
    return PeerInfo(software[:200], version, frozenset(features), limits, head.get("passive") is True)


def host_version(head: Mapping[str, Any]) -> int:
    """The version a host's HELLO chose, if this guest speaks it."""
    version: Any = head.get("version")
    if type(version) is not int:
        raise RemoteProtocolError("HELLO: version must be a number")
    if not VERSION_MIN <= version <= VERSION_MAX:
        raise VersionMismatch(
            f"the host chose protocol {version}, this guest speaks {VERSION_MIN} to {VERSION_MAX}"
        )
    return int(version)


def guest_auth(head: Mapping[str, Any], token: Token | None) -> bool:
    """Whether the guest must prove itself.

    Raises:
        AuthenticationError: only one side has a token.
    """
    auth = head.get("auth")
    if auth == AUTH_NONE:
        if token is not None:
            raise AuthenticationError(
                "a token is set here, but the host has none: unset MLXBRIDGE_TOKEN, or start the host with --token-file"
            )
        return False
    if auth != AUTH_HMAC:
        raise RemoteProtocolError(f"HELLO: auth is neither {AUTH_NONE!r} nor {AUTH_HMAC!r}")
    if token is None:
        raise AuthenticationError("the host wants a token: set MLXBRIDGE_TOKEN or MLXBRIDGE_TOKEN_FILE")
    return True
