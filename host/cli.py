"""``mlxbridge-host``: checks that the host's libraries are there, then hands over to ``host.commands``."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point."""
    try:
        import click  # noqa: F401
        import pydantic  # noqa: F401
        import uvloop  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"mlxbridge-host needs the host extra (no module {error.name}): run pip install '.[host]' in a clone of "
            "mlxbridge"
        )
    from mlxbridge.host.commands import cli

    cli()
