"""Where files are that nobody named."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def config_file() -> Path:
    """The configuration: ``mlxbridge/config.toml`` in ``$XDG_CONFIG_HOME``, else in the system's usual folder.

    That is ``~/.config``, on macOS ``~/Library/Application Support``. The variable counts on macOS too, since who sets it
    there wants to have all such files in one place.
    """
    usual = "~/Library/Application Support" if sys.platform == "darwin" else "~/.config"
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or usual).expanduser()
    return folder / "mlxbridge" / "config.toml"


def socket_file() -> Path:
    """Where guests on this machine look last, ``~/.mlxbridge/run/mlxbridge.sock``."""
    return Path("~/.mlxbridge/run/mlxbridge.sock").expanduser()


def prefix_folder() -> Path:
    """``mlxbridge/prefixes`` in the user's folder for caches."""
    if sys.platform == "darwin":
        caches = Path("~/Library/Caches").expanduser()
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return caches / "mlxbridge" / "prefixes"
