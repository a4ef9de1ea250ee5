"""Values as people write them in the file, on the command line and in the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainValidator, ValidationInfo

from mlxbridge.addresses import Activation, Listen, parse_listen, parse_listen_option
from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.host.access import check_metrics
from mlxbridge.host.keep_alive import parse_keep_alive
from mlxbridge.host.models.store import ModelSource, classify
from mlxbridge.host.params import parse_generate
from mlxbridge.http_addresses import HttpListen, parse_http_listen, parse_origin

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(?:([KMGT])(?:I?B)?)?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")
_MOST_BYTES = 1 << 50
_ADVICE = "give a size such as 512MB or 8GB; powers of 1024"
_MOST_NAME_CHARS = 200


def parse_size(value: Any) -> int:
    """Bytes of a size such as ``512MB``, ``1.5GB`` or ``0``; units are powers of 1024.

    Raises:
        ValueError: it is none.
    """
    text = str(value) if type(value) in (int, float) else value
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no size; {_ADVICE}")
    number, unit = match[1], (match[2] or "").upper()
    if not unit and float(number):
        raise ValueError(f"{value!r} has no unit; {_ADVICE}")
    size = int(float(number) * 1024 ** _UNITS.index(unit[:1]))
    if size > _MOST_BYTES:
        raise ValueError(f"{value!r} is more than any machine has; {_ADVICE}")
    return size


@contextmanager
def _collected() -> Iterator[None]:
    """Let pydantic, which collects each ``ValueError``, hear of what is wrong."""
    try:
        yield
    except BridgeError as error:
        raise ValueError(error.message) from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a text, not {value!r}")
    if "\0" in value:
        raise ValueError(f"{value!r} has a NUL in it")
    return value


def _not_zero(size: int) -> int:
    if not size:
        raise ValueError(f"0 leaves no room for anything; {_ADVICE}")
    return size


def _keep_alive(value: Any) -> float:
    try:
        seconds = parse_keep_alive(value)
    except UsageError as error:
        raise ValueError(error.message.removeprefix("keep_alive: ")) from error
    return math.inf if seconds is None else seconds


def _listen(value: Any, info: ValidationInfo) -> Listen | Activation:
    with _collected():
        return parse_listen_option(_rooted(value, info))


def _metrics(value: Any, info: ValidationInfo) -> Listen:
    with _collected():
        listen = parse_listen(_rooted(value, info))
        check_metrics(listen)
    return listen


def _http_address(value: Any, info: ValidationInfo) -> HttpListen:
    with _collected():
        return parse_http_listen(_rooted(value, info))


def _origin(value: Any) -> str:
    with _collected():
        return parse_origin(_text(value))


def _rooted(value: Any, info: ValidationInfo) -> str:
    """An address whose socket path, too, begins at the file's folder if it is in the file."""
    text = _text(value).strip()
    path, question, query = text.removeprefix("unix:").partition("?")
    if _folder(info) is None or not text.startswith("unix:") or not path or path.startswith("/"):
        return text
    return f"unix:{_place(path, info)}{question}{query}"


def _folder(info: ValidationInfo) -> Path | None:
    """The file's folder, None for what is in no file."""
    folder: Path | None = (info.context or {}).get("folder")
    return folder


def _place(value: Any, info: ValidationInfo) -> Path:
    """A path in the file begins at the file's folder, another one at the current folder."""
    try:
        return Path(_folder(info) or Path.cwd(), Path(_text(value)).expanduser()).absolute()
    except RuntimeError:  # ~USER
        raise ValueError(f"{value!r} begins with no user's name") from None


def _source(value: Any, info: ValidationInfo) -> ModelSource:
    with _collected():
        return classify(_text(value), _folder(info))


def _sampling(params: dict[str, Any]) -> dict[str, Any]:
    for name in ("model", "prompt", "messages"):
        if name in params:
            raise ValueError(f"{name} is for a call to say, not for all calls of a model")
    if wrong := list(_wrong(params)):
        raise ValueError("; ".join(wrong))
    return params


def _wrong(params: dict[str, Any]) -> Iterator[str]:
    """What is wrong with each param, one after the other without those before it."""
    left = dict(params)
    while True:
        try:
            parse_generate({**left, "messages": []})
        except BridgeError as error:
            yield error.message
            if left.pop(str(error.details.get("field")), None) is None:
                return
        else:
            return


def check_name(name: str) -> str:
    """A name that guests can ask for.

    Raises:
        ValueError: it cannot be one.
    """
    if not name or len(name) > _MOST_NAME_CHARS or not name.isprintable() or name != name.strip():
        raise ValueError(f"{name[:_MOST_NAME_CHARS]!r} is no name: give 1 to {_MOST_NAME_CHARS} letters")
    if "+" in name:
        raise ValueError(f"{name!r} has a + in it, which stands between a model and its adapter")
    return name


Size = Annotated[int, PlainValidator(parse_size)]
"""Bytes."""
Memory = Annotated[int, PlainValidator(parse_size), AfterValidator(_not_zero)]
"""Bytes, more than none."""
KeepAlive = Annotated[float, PlainValidator(_keep_alive)]
"""Seconds; infinite: for ever."""
ListenAddress = Annotated[Listen | Activation, PlainValidator(_listen)]
HttpAddress = Annotated[HttpListen, PlainValidator(_http_address)]
Origin = Annotated[str, PlainValidator(_origin)]
"""Of web pages, as browsers tell it; or ``*``."""
MetricsAddress = Annotated[Listen, PlainValidator(_metrics)]
Place = Annotated[Path, PlainValidator(_place)]
"""An absolute path."""
Source = Annotated[ModelSource, PlainValidator(_source)]
Sampling = Annotated[dict[str, Any], AfterValidator(_sampling)]
"""Params of ``generate``, but for what is asked."""
Name = Annotated[str, AfterValidator(check_name)]
