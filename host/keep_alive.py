"""How long a model stays loaded that nobody uses, as people write it."""

from __future__ import annotations

import re
import sys
from typing import Any

from mlxbridge.errors import UsageError

FOR_EVER = -1
_MOST_S = sys.float_info.max
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd])"
_DURATION = re.compile(f"(?:{_PART})+")
_ADVICE = 'give seconds, a text such as "30m" or "1h30m", 0 (at once) or -1 (never)'


def parse_keep_alive(value: Any) -> float | None:
    """Seconds without a call after which a model is unloaded.

    Args:
        value: a number of seconds, as text too; or text with units, ``s``, ``m``, ``h`` and ``d``; or -1.

    Returns:
        None for -1: never.

    Raises:
        UsageError: it is none of these; ``details["field"]`` is ``keep_alive``.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if _DURATION.fullmatch(text):
            return sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(_PART, text))
        try:
            value = float(text)
        except ValueError:
            raise _refuse(value) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(value)
    if value == FOR_EVER:
        return None
    if not 0 <= value <= _MOST_S:
        raise _refuse(value)
    return float(value)


def _refuse(value: Any) -> UsageError:
    shown = repr(value)[:100]
    return UsageError(f"keep_alive: {shown} is no time; {_ADVICE}", details={"field": "keep_alive"})
