"""Who may ask, and for how much: a file of hashed API keys.

::

    [alice]
    sha256 = "9f86d08…"             # of her key; a list where she has several
    max_in_flight = 4               # requests at once
    tokens_per_minute = 100_000     # of prompts and answers
    models = ["demo"]               # all if left out
    priority = "low"                # the most that she may ask for, and what she has if she asks for none
    manage = true                   # may load, unload, pull and delete models, and say how long they stay (keep_alive)
    metrics = true                  # may read /metrics, which tells of all callers
    token = "alice:0123…"           # the host's, to be a guest of her own there; the gateway's if left out

Keys are made here, of 256 random bits. So one SHA-256 hides them: there is nothing to guess that a slow hash would guard.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from mlxbridge.errors import UsageError
from mlxbridge.types import Priority

log = logging.getLogger(__name__)

_PREFIX = "mlxb-"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME_RULE = (
    "a caller's name has 1 to 64 letters, digits, '.', '_' or '-', and is not 'anyone', who has no key"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[^:]+:.{8,}")
_PRIORITIES = ("low", "normal", "high")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Somebody who may ask; the file above explains each attribute."""

    name: str
    max_in_flight: int | None = None
    tokens_per_minute: int | None = None
    models: tuple[str, ...] | None = None
    priority: Priority | None = None
    manage: bool = False
    metrics: bool = False
    token: str | None = None

    @property
    def sees_all(self) -> bool:
        """Whether she may know what other callers do."""
        return self.manage and self.models is None

    def may_use(self, model: str) -> bool:
        """Whether a model is among hers."""
        return self.models is None or model in self.models

    def may_have(self, priority: str) -> bool:
        """Whether she may be served as soon as that."""
        most = self.priority or "high"
        return priority not in _PRIORITIES or _PRIORITIES.index(priority) <= _PRIORITIES.index(most)


ANYONE = Caller(name="anyone", manage=True)
"""Whoever asks a gateway that has no keys."""


class Keys:
    """The callers of a file, by their keys.

    Args:
        path: of the file.

    Raises:
        UsageError: it cannot be read, or something in it is wrong; the message names that.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._callers = _read(path)

    def find(self, key: str) -> Caller | None:
        """Whose key it is; None if nobody's."""
        return self._callers.get(_digest(key))

    @property
    def names(self) -> frozenset[str]:
        """Of all callers."""
        return frozenset(caller.name for caller in self._callers.values())

    def reload(self) -> bool:
        """Read the file again; one that is wrong changes nothing, and is logged. Whether it was good."""
        try:
            self._callers = _read(self._path)
        except UsageError as error:
            log.error("keys stay as they were: %s", error.message)
            return False
        log.info("keys have been read again")
        return True


def make_key() -> tuple[str, str]:
    """A new key, and its hash for the file."""
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, _digest(key)


def add_caller(path: Path, name: str, digest: str) -> None:
    """Let somebody in: add a table to the file, which is made if it is not there.

    Raises:
        UsageError: the name is no name, the file has it already, or cannot be written.
    """
    if not _is_name(name):
        raise UsageError(f"{name!r}: {_NAME_RULE}")
    before = ""
    try:
        if path.exists():
            before = path.read_text(encoding="utf-8").rstrip("\n")
            if name in tomllib.loads(before):
                raise UsageError(f"{path} has a caller {name!r} already")
        quoted = f'"{name}"' if "." in name else name
        path.touch(mode=0o600)
        path.write_text(f'{before}\n\n[{quoted}]\nsha256 = "{digest}"\n'.lstrip("\n"), encoding="utf-8")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot add to {path}: {error}") from error


def _is_name(name: str) -> bool:
    """Whether a caller may be called so: who needs no key shares neither limits nor a connection with one who has."""
    return name != ANYONE.name and _NAME.fullmatch(name) is not None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def _read(path: Path) -> dict[str, Caller]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        is_open = path.stat().st_mode & 0o022
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if is_open:
        log.warning("%s can be written by other users; chmod go-w it", path)
    callers: dict[str, Caller] = {}
    for name, table in tables.items():
        try:
            digests, caller = _caller(name, table)
            for digest in digests:
                if digest in callers:
                    raise UsageError(f"sha256: {callers[digest].name!r} has the same key")
                callers[digest] = caller
        except UsageError as error:
            raise UsageError(f"{path}, [{name}]: {error.message}") from error
    if not callers:
        raise UsageError(f"{path} has no caller in it; `mlxbridge gateway key NAME` makes one")
    return callers


def _caller(name: str, table: Any) -> tuple[list[str], Caller]:
    if not _is_name(name):
        raise UsageError(_NAME_RULE)
    if not isinstance(table, dict):
        raise UsageError("must be a table")
    known = {field.name for field in fields(Caller)} - {"name"} | {"sha256"}
    for key in table:
        if key not in known:
            raise UsageError(f"{key}: there is no such key; known are {', '.join(sorted(known))}")
    given: dict[str, Any] = dict(table)
    digests = given.pop("sha256", None)
    digests = [digests] if isinstance(digests, str) else digests
    if not _is_list_of_texts(digests) or not digests or not all(map(_DIGEST.fullmatch, digests)):
        raise UsageError("sha256: must be 64 hexadecimal digits, or a list of such")
    _check(given)
    if "models" in given:
        given["models"] = tuple(given["models"])
    return digests, Caller(name=name, **given)


def _check(given: Mapping[str, Any]) -> None:
    for key in ("max_in_flight", "tokens_per_minute"):
        if key in given and (type(given[key]) is not int or given[key] < 1):
            raise UsageError(f"{key}: must be a whole number from 1, not {given[key]!r}")
    if "models" in given and not _is_list_of_texts(given["models"]):
        raise UsageError(f"models: must be a list of names, not {given['models']!r}")
    if "priority" in given and given["priority"] not in get_args(Priority):
        raise UsageError(f"priority: must be one of {', '.join(_PRIORITIES)}, not {given['priority']!r}")
    for key in ("manage", "metrics"):
        if key in given and type(given[key]) is not bool:
            raise UsageError(f"{key}: must be true or false, not {given[key]!r}")
    if "token" in given and not (isinstance(given["token"], str) and _TOKEN.fullmatch(given["token"])):
        raise UsageError(
            "token: must be NAME:SECRET, as in the host's token file, the secret of at least 8 characters"
        )


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
