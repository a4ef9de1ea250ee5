"""What the gateway needs that the guest library does without."""

from __future__ import annotations

import importlib.util

from mlxbridge.errors import UsageError

_PACKAGES = ("httptools", "orjson", "prometheus_client", "starlette", "uvicorn", "uvloop")


def check_needs() -> None:
    """Look whether all packages are installed.

    Raises:
        UsageError: it names those that are not, and what installs them.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the gateway needs {', '.join(missing)}: run pip install '.[gateway]' in a clone of mlxbridge"
        )
