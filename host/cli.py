"""``mlxbridge-host``: checks that the host's libraries are there, then hands over to ``host.commands``."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point."""
    try:
        import click  # noqa: F401
        import uvloop  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"mlxbridge-host needs the host extra (no module {error.name}): pip install 'mlxbridge[host]'"
        )
    from mlxbridge.host.commands import cli

    cli()
