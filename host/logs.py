"""How the host's processes log: lines on stderr, of one form whoever writes them."""

from __future__ import annotations

import logging

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
_TIME_FORMAT = "%H:%M:%S"


def start_logging(level: int, *, libraries: int = logging.NOTSET) -> None:
    """Log from now on.

    Args:
        level: of the least lines that are written, such as ``logging.INFO``.
        libraries: as ``level``, for all that is not mlxbridge's own, where that is stricter.
    """
    logging.basicConfig(level=max(level, libraries), format=_FORMAT, datefmt=_TIME_FORMAT)
    logging.getLogger("mlxbridge").setLevel(level)


def set_level(level: int) -> None:
    """Log lines from another level on; processes that run already go on as they were told."""
    logging.getLogger().setLevel(level)
    logging.getLogger("mlxbridge").setLevel(level)


def current_level() -> int:
    """What ``start_logging`` was told, for another process."""
    return logging.getLogger("mlxbridge").getEffectiveLevel()
