"""How the host's processes log: lines on stderr, of one form whoever writes them, for people or for programs."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, get_args

log = logging.getLogger(__name__)

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
_libraries = logging.NOTSET


def start_logging(level: int, form: LogFormat = "human", *, libraries: int = logging.NOTSET) -> None:
    """Log from now on, Python's warnings and the error that ends the process among it.

    Args:
        level: of the least lines that are written, such as ``logging.INFO``.
        form: of the lines.
        libraries: as ``level``, for all that is not mlxbridge's own, where that is stricter.
    """
    global _libraries
    _libraries = libraries
    logging.basicConfig(handlers=[_handler])
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    set_level(level)
    set_format(form)


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Have a process of the front's own take what ``log_words`` gives."""
    parser.add_argument("--log-level", type=int, default=logging.WARNING, help="logging's number of it")
    parser.add_argument("--log-format", choices=get_args(LogFormat), default="human")


def log_words() -> list[str]:
    """Options for another process that is to log as this one does."""
    return ["--log-level", str(current_level()), "--log-format", current_format()]


def adopt_library(module: str) -> None:
    """Have a library's lines be written as ours are; some write theirs to stderr themselves once they are imported.

    Args:
        module: in which it makes its logger.
    """
    importlib.import_module(module)
    logger = logging.getLogger(module.partition(".")[0])
    logger.handlers.clear()
    logger.propagate = True


def fields(**values: Any) -> dict[str, Any]:
    """What a line says besides, as ``extra`` for the logger; people are told by the message alone."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def add_to_all(**values: Any) -> None:
    """Have all lines of this process say so too."""
    JsonFormatter.common = {**JsonFormatter.common, **values}


def set_level(level: int) -> None:
    """Log lines from another level on, in this process."""
    logging.getLogger().setLevel(max(level, _libraries))
    logging.getLogger("mlxbridge").setLevel(level)


def set_format(form: LogFormat) -> None:
    """Log lines of another form, in this process."""
    _handler.setFormatter(_FORMATTERS[form])


def current_level() -> int:
    """Of the least lines that this process writes."""
    return logging.getLogger("mlxbridge").getEffectiveLevel()


def current_format() -> LogFormat:
    """Of the lines that this process writes."""
    return "json" if isinstance(_handler.formatter, JsonFormatter) else "human"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("this process ends", exc_info=(kind, error, trace))


def _escape(control: re.Match[str]) -> str:
    return f"\\u{ord(control[0]):04x}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
