"""Memory for payloads that come in."""

from __future__ import annotations

import sys
from typing import Any


def allocate(size: int) -> Any:
    """Writable memory of ``size`` bytes, from the heap: there a payload that was dropped leaves its pages to the next.

    Memory mapped for each payload would be fresh pages every time, which cost more than reading the payload does. An
    application that has loaded numpy will most likely make an array of it, and numpy need not fill it with zeros first.
    """
    numpy = sys.modules.get("numpy")
    return bytearray(size) if numpy is None else numpy.empty(size, numpy.uint8)
