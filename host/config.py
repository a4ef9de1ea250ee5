"""What the daemon was told on the command line, checked."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxbridge.addresses import Activation, Listen, UnixAddress, parse_listen_option
from mlxbridge.errors import UsageError
from mlxbridge.host.access import check_tokens
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.prefixes.part_folder import check_private
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import classify
from mlxbridge.protocol.handshake import parse_token

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 30.0
_LIMITS = EngineLimits()
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(?:([KMGT])(?:I?B)?)?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")
_MOST_BYTES = 1 << 50
_ADVICE = "give a size such as 512MB or 8GB; powers of 1024"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a daemon needs to start.

    Attributes:
        listens: where guests may connect.
        models: ``demo``, folders in MLX format, Hugging Face ids.
        draft_models: the like, by the one of ``models`` that they draft for.
        tokens: secret by guest name; None lets everyone in who reaches the socket.
        drain_timeout_s: how long running calls may go on after SIGTERM.
        limits: how much each model takes on.
    """

    listens: tuple[Listen | Activation, ...]
    models: tuple[ModelSettings, ...]
    tokens: dict[str, bytes] | None = None
    drain_timeout_s: float = DRAIN_TIMEOUT_S


def default_listen() -> Listen:
    """``~/.mlxbridge/run/mlxbridge.sock``, where guests on this machine look last."""
    return Listen(UnixAddress(os.path.expanduser("~/.mlxbridge/run/mlxbridge.sock")))


def make_config(
    *,
    listens: Sequence[str],
    models: Sequence[str],
    draft_models: Sequence[str] = (),
    token_file: Path | None,
    drain_timeout_s: float,
    limits: EngineLimits = _LIMITS,
) -> Config:
    """Check the command line.

    Raises:
        UsageError: an address, the token file, or a combination of them is no good.
        ModelNotFound, ModelLoadFailed: a name stands for nothing that could be a model.
    """
    parsed = tuple(parse_listen_option(text) for text in listens) or (default_listen(),)
    tokens = None if token_file is None else read_tokens(token_file)
    for listen in parsed:
        if isinstance(listen, Listen):
            check_tokens(listen, tokens)
    drafts = pair_drafts(models, draft_models)
    return Config(
        listens=parsed,
        models=tuple(
            ModelSettings.of(model, draft=classify(drafts[model]) if model in drafts else None, limits=limits)
            for model in models
        ),
        tokens=tokens,
        drain_timeout_s=drain_timeout_s,
    )


def pair_drafts(models: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """Draft models by the model that each drafts for.

    Args:
        models: as ``--model`` gave them.
        texts: ``DRAFT`` where there is one model, else ``MODEL=DRAFT``.

    Raises:
        UsageError: it is not said for which, or two are for one.
    """
    drafts: dict[str, str] = {}
    for text in texts:
        model, equals, draft = text.partition("=")
        if not equals or model not in models:
            model, draft = models[0], text
            if len(models) > 1:
                raise UsageError(
                    f"--draft-model: {text} does not begin with one of {', '.join(models)} and =; say for which it is"
                )
        if model in drafts:
            raise UsageError(f"--draft-model: {model} has two, {drafts[model]} and {draft}")
        drafts[model] = draft
    return drafts


def default_prefix_folder() -> Path:
    """``mlxbridge/prefixes`` in the user's folder for caches."""
    if sys.platform == "darwin":
        caches = Path("~/Library/Caches").expanduser()
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return caches / "mlxbridge" / "prefixes"


def make_limits(
    *,
    max_batch: int,
    max_waiting: int,
    kv_memory: str | None,
    prefix_cache: str | None,
    kv_bits: int | None = None,
    kv_group_size: int | None = None,
    kv_window: int | None = None,
    kv_sinks: int | None = None,
    prefix_disk: str | None = None,
    prefix_disk_folder: Path | None = None,
) -> EngineLimits:
    """The limits that the command line gives.

    Raises:
        UsageError: a size is no good, a setting does not go with another, or what is to be on disk cannot be.
    """
    kv_bytes = None if kv_memory is None else parse_size("--kv-memory", kv_memory)
    if kv_bytes == 0:
        raise UsageError(f"--kv-memory: 0 leaves no room for any call; {_ADVICE}")
    prefix_bytes = None if prefix_cache is None else parse_size("--prefix-cache", prefix_cache)
    disk_bytes = 0 if prefix_disk is None else parse_size("--prefix-disk", prefix_disk)
    if disk_bytes and prefix_bytes == 0:
        raise UsageError(
            "--prefix-disk: what comes from the disk has to have room in memory, but --prefix-cache is 0"
        )
    if prefix_disk_folder is not None and not disk_bytes:
        raise UsageError("--prefix-disk-folder: nothing is kept there without --prefix-disk SIZE")
    folder = (prefix_disk_folder or default_prefix_folder()).expanduser().absolute()
    if disk_bytes and folder.exists():
        try:
            check_private(folder)
        except OSError as error:
            raise UsageError(f"--prefix-disk-folder: {folder}: {error.strerror}") from error
    try:
        return EngineLimits(
            max_batch=max_batch,
            max_waiting=max_waiting,
            kv_bytes=kv_bytes,
            prefix_cache_bytes=prefix_bytes,
            kv_bits=kv_bits,
            kv_group_size=kv_group_size,
            kv_window=kv_window,
            kv_sinks=kv_sinks,
            prefix_disk_bytes=disk_bytes,
            prefix_disk_folder=str(folder) if disk_bytes else None,
        )
    except UsageError as error:  # who typed options knows them by these names
        raise UsageError(
            re.sub(r"\bkv_(bits|group_size|window|sinks)\b", _option_name, error.message)
        ) from error


def _option_name(field: re.Match[str]) -> str:
    return f"--{field[0].replace('_', '-')}"


def parse_size(option: str, text: str) -> int:
    """Bytes of a size such as ``512MB``, ``1.5GB`` or ``0``; units are powers of 1024.

    Raises:
        UsageError: it is none; the message names the option.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option}: {text!r} is no size; {_ADVICE}")
    number, unit = match[1], (match[2] or "").upper()
    if not unit and float(number):
        raise UsageError(f"{option}: {text!r} has no unit; {_ADVICE}")
    size = int(float(number) * 1024 ** _UNITS.index(unit[:1]))
    if size > _MOST_BYTES:
        raise UsageError(f"{option}: {text!r} is more than any machine has; {_ADVICE}")
    return size


def read_tokens(path: Path) -> dict[str, bytes]:
    """Tokens, one a line (``NAME:SECRET`` or ``SECRET``); empty lines and lines that begin with ``#`` do not count.

    Raises:
        UsageError: the file cannot be read, a line is no token, or a name comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        open_to_others = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file: cannot read {path}: {error}") from error
    if open_to_others:
        log.warning("%s can be read by other users; chmod 600 it", path)
    tokens: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            token = parse_token(line)
        except UsageError as error:
            raise UsageError(f"--token-file: {path}, line {number}: {error.message}") from error
        if token.identity in tokens:
            raise UsageError(f"--token-file: {path}, line {number}: the name {token.identity!r} comes twice")
        tokens[token.identity] = token.secret
    if not tokens:
        raise UsageError(f"--token-file: {path} has no token in it")
    return tokens
