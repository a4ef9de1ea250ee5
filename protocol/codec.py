"""msgpack, and nothing else: the only module of the protocol that imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS, MAX_MAP_ITEMS

Buffer = bytes | bytearray | memoryview

_HANDSHAKE_ITEMS = 64
_KEYS = {str}
_SCALARS = {str, bytes, int, float, bool, type(None)}


class DecodeError(ValueError):
    """The bytes are not one msgpack value within bounds."""


class EncodeError(ValueError):
    """The value is not one that a peer could decode."""


def make_encoder() -> Callable[[Any], bytes]:
    """An encoder with a buffer of its own, for one connection (half the cost of ``packb``; not for two threads at once)."""
    encode: Callable[[Any], bytes] = msgpack.Packer(autoreset=True).pack
    return encode


def encode_plain(encode: Callable[[Any], bytes], value: Any) -> bytes:
    """A value from the application, proved to be one that ``decode`` takes: a peer that cannot would end the connection.

    Raises:
        EncodeError: not plain msgpack, a key that is not a string, lone surrogates, or a collection over the bound.
    """
    try:
        data = encode(value)
        if not _surely_decodes(value):
            decode(data)
    except Exception as exc:
        raise EncodeError(_reason(exc)) from exc
    return data


def decode(data: Buffer) -> Any:
    """One msgpack value; strings are UTF-8, map keys are strings or bytes.

    Raises:
        DecodeError: not msgpack, bytes left over, or a collection over the protocol's bound.
    """
    size = len(data)  # no collection has more members than bytes: nested claims must not add up to much
    most_array = size if size < MAX_ARRAY_ITEMS else MAX_ARRAY_ITEMS
    most_map = size if size < MAX_MAP_ITEMS else MAX_MAP_ITEMS
    try:
        return msgpack.unpackb(data, ext_hook=_refuse_ext, max_array_len=most_array, max_map_len=most_map)
    except Exception as exc:  # msgpack raises a dozen kinds, some of them bare ValueError or OverflowError
        raise DecodeError(_reason(exc)) from exc


def decode_handshake(data: Buffer) -> Any:
    """Like ``decode``, for a peer that has not proved who it is: small collections only."""
    try:
        return msgpack.unpackb(
            data, ext_hook=_refuse_ext, max_array_len=_HANDSHAKE_ITEMS, max_map_len=_HANDSHAKE_ITEMS
        )
    except Exception as exc:
        raise DecodeError(_reason(exc)) from exc


def _surely_decodes(value: Any) -> bool:
    """Whether what could be encoded is a map of scalars, or of such maps: most heads are, and need no proof."""
    if type(value) is not dict or len(value) > MAX_MAP_ITEMS or not _KEYS.issuperset(map(type, value)):
        return False
    members = value.values()
    return _SCALARS.issuperset(map(type, members)) or all(
        type(member) in _SCALARS or _surely_decodes(member) for member in members
    )


def _refuse_ext(code: int, data: bytes) -> Any:
    raise DecodeError(f"extension type {code}")


def _reason(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"[:200]
