"""How the host's processes log: lines on stderr, of one form whoever writes them, for people or for programs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["human", "json"]

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
_TIME_FORMAT = "%H:%M:%S"
_INDENT = "\n    "
# What ends a line, or has a terminal do something, beside the end of a line itself and what JSON writes otherwise anyway.
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class HumanFormatter(logging.Formatter):
    """A line with time, level and message; further lines of a message are indented.

    So no text in it, be it a guest's or of a file that was downloaded, can look like a line of the log, nor do anything
    to a terminal.
    """

    def __init__(self) -> None:
        super().__init__(_FORMAT, _TIME_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """The line or lines, without the end."""
        return _CONTROLS.sub(_escape, super().format(record)).replace("\n", _INDENT)


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, process, message, and the fields that ``fields`` gave."""

    common: Mapping[str, Any] = {}

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **self.common,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _CONTROLS.sub(_escape, json.dumps(line, ensure_ascii=False, default=repr))


_FORMATTERS: dict[LogFormat, logging.Formatter] = {
    "human": HumanFormatter(),
    "json": JsonFormatter(),
}
_handler = logging.StreamHandler()


def start_logging(level: int, form: LogFormat = "human", *, libraries: int = logging.NOTSET) -> None:
    """Log from now on.

    Args:
        level: of the least lines that are written, such as ``logging.INFO``.
        form: of the lines.
        libraries: as ``level``, for all that is not mlxbridge's own, where that is stricter.
    """
    set_format(form)
    logging.basicConfig(level=max(level, libraries), handlers=[_handler])
    logging.getLogger("mlxbridge").setLevel(level)


def fields(**values: Any) -> dict[str, Any]:
    """What a line says besides, as ``extra`` for the logger; people are told by the message alone."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def add_to_all(**values: Any) -> None:
    """Have all lines of this process say so too."""
    JsonFormatter.common = {**JsonFormatter.common, **values}


def set_level(level: int) -> None:
    """Log lines from another level on; processes that run already go on as they were told."""
    logging.getLogger().setLevel(level)
    logging.getLogger("mlxbridge").setLevel(level)


def set_format(form: LogFormat) -> None:
    """Log lines of another form; processes that run already go on as they were told."""
    _handler.setFormatter(_FORMATTERS[form])


def current_level() -> int:
    """What ``start_logging`` was told, for another process."""
    return logging.getLogger("mlxbridge").getEffectiveLevel()


def current_format() -> LogFormat:
    """As ``current_level``."""
    return "json" if isinstance(_handler.formatter, JsonFormatter) else "human"


def _escape(control: re.Match[str]) -> str:
    return f"\\u{ord(control[0]):04x}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
