"""How long a model is to stay loaded, as Ollama's clients write it."""

from __future__ import annotations

import re
from typing import Any

from mlxbridge.guest.gateway.ollama.fields import refused, shown
from mlxbridge.types import KeepAlive

_FOR_EVER = -1
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([+-]?)((?:{_PART})+)", re.ASCII)
_PARTS = re.compile(_PART, re.ASCII)


def read_keep_alive(value: Any) -> KeepAlive | None:
    """A ``keep_alive`` as the host takes it.

    Args:
        value: seconds, or a duration as Go has them (``"5m"``, ``"1.5h"``, ``"300ms"``); below 0 is for ever.

    Returns:
        Seconds, or -1 for ever; a text of another kind as it is, which the host may know. None if it was left out.

    Raises:
        Problem: it is neither a number nor a text.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refused("keep_alive", f'must be seconds, or a text such as "5m", not {shown(value)}')
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found is None:
            return value
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PARTS.findall(found[2]))
        value = -seconds if found[1] == "-" else seconds
    return value if value >= 0 else _FOR_EVER
