"""How a command ends: what it says of an error, and its exit status."""

from __future__ import annotations

import json
import os
import sys
from enum import IntEnum
from typing import Any

from mlxbridge.answers import harmless, plain_error
from mlxbridge.errors import (
    BridgeError,
    DeadlineExceeded,
    InvalidArgument,
    ModelNotFound,
    TransportError,
    Unsupported,
    UsageError,
)


class Exit(IntEnum):
    """Exit statuses; ``EXPLAINED`` says what they mean."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_HOST = 3
    TIMED_OUT = 4
    BUSY = 5
    INTERRUPTED = 130
    UNREAD = 141


EXPLAINED = """\
exit status:
  0    all is well
  1    the call failed; of a batch: a line of it did
  2    an argument is wrong (a model that there is not, for one), or cannot be honoured, as far as is seen here or at the host
  3    no host answers, or the connection to it was lost
  4    the time was up (--timeout)
  5    not now: the same command may succeed later (Overloaded, Unavailable, WorkerLost)
  130  Ctrl-C
  141  whoever read the output has closed it
"""


_HERE = {
    "list_models()": "`mlxbridge models`",
    "show_model()": "`mlxbridge show`",
    "load_model()": "`mlxbridge load`",
    "count_tokens() tells how long a text or a chat is": "shorten it",
    " or token= to": " to",
    "neither, or token=''": "unset it",
    "timeout=": "--timeout",
    "max_tokens": "--max-tokens",
}
"""What advice for programs is called on the command line."""


def exit_of(error: BaseException) -> Exit:
    """The exit status of a command that ended with this."""
    match error:
        case UsageError() | InvalidArgument() | Unsupported() | ModelNotFound():
            return Exit.USAGE
        case TransportError():
            return Exit.NO_HOST
        case DeadlineExceeded():
            return Exit.TIMED_OUT
        case BridgeError() if error.retryable:
            return Exit.BUSY
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case BrokenPipeError():
            return Exit.UNREAD
        case OSError() if isinstance(error.filename, str):  # a file that was named
            return Exit.USAGE
    return Exit.FAILED


def report(error: BaseException, *, as_json: bool) -> Exit:
    """Say on stderr what ended a command.

    Args:
        error: what was raised.
        as_json: say it as an object, ``{"error": {"name": …, "message": …, "retryable": …, "details": …}}``, on one line.

    Returns:
        The exit status.
    """
    status = exit_of(error)
    if isinstance(error, OSError) and not isinstance(error, BridgeError):
        _discard(1)  # a full disk, say
    if status is Exit.UNREAD:
        return status
    if as_json:
        told = json.dumps({"error": plain_failure(error)}, default=str)
    elif isinstance(error, KeyboardInterrupt):
        told = ""
    else:
        told = harmless(f"mlxbridge: {describe_failure(error)}", sys.stderr)
    try:
        print(told, file=sys.stderr, flush=True)
    except OSError:  # nobody reads it any more
        _discard(2)
    return status


def describe_failure(error: BaseException) -> str:
    """What went wrong, and what to do next, for people."""
    if isinstance(error, BridgeError):
        for name, option in _HERE.items():
            error.advice = error.advice.replace(name, option)
        notes: list[str] = getattr(error, "__notes__", [])
        told = "; ".join([str(error), *notes])
    else:
        told = _describe_other(error)
    return f"{type(error).__name__}: {told}"


def plain_failure(error: BaseException) -> dict[str, Any]:
    """What went wrong, for JSON."""
    if isinstance(error, BridgeError):
        notes = getattr(error, "__notes__", [])
        return {**plain_error(error), "message": "; ".join([error.message, *notes])}
    is_interrupt = isinstance(error, KeyboardInterrupt)
    return {
        "name": "Interrupted" if is_interrupt else type(error).__name__,
        "message": "Ctrl-C" if is_interrupt else _describe_other(error),
        "retryable": False,
        "details": {},
    }


def _describe_other(error: BaseException) -> str:
    """What an error says that is none of mlxbridge's."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if isinstance(error.filename, str) else str(error)
    return f"{error} (this should not happen; MLXBRIDGE_TRACEBACK=1 shows where)"


def _discard(descriptor: int) -> None:
    """Keep the interpreter from writing there once more, at its end, what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
