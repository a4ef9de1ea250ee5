"""Options that environment variables may give, too, as containers have them; and how both are read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from math import inf

from mlxbridge.errors import UsageError

Read = Callable[[str], object]
"""Gives the value for a text; raises ValueError or ArgumentTypeError, saying what would be right."""

_WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def take_variables(options: argparse.Namespace, prefix: str, readers: Mapping[str, Read]) -> None:
    """Give options that were left out the values of their variables, if these are set and not empty.

    Args:
        options: as argparse has read them; what was left out is None or False.
        prefix: of the variables, before the name of the option.
        readers: by the name of the option.

    Raises:
        UsageError: a variable has no value that it can have; the message names it.
    """
    for name, read in readers.items():
        variable = f"{prefix}{name.upper()}"
        if getattr(options, name) in (None, False) and (text := os.environ.get(variable, "").strip()):
            try:
                setattr(options, name, read(text))
            except (ValueError, argparse.ArgumentTypeError) as error:
                raise UsageError(f"{variable}: {error}") from None


def read_bytes(text: str) -> int:
    """A number of bytes above 0."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def read_seconds(text: str) -> float:
    """Seconds above 0."""
    if not (seconds := read_pause(text)) > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return seconds


def read_pause(text: str) -> float:
    """Seconds from 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < inf:
        raise argparse.ArgumentTypeError(f"must be a number from 0, not {text!r}")
    return seconds


def read_yes_or_no(text: str) -> bool:
    """What a flag is set to."""
    if text.lower() not in _WORDS:
        raise ValueError(f"must be one of {', '.join(_WORDS)}, not {text!r}")
    return _WORDS[text.lower()]


def one_of(*choices: str) -> Read:
    """Reads one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    return read
