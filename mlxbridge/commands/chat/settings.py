"""Settings by name, as ``/set`` takes them: those that the command line has, read as there."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from mlxbridge.commands.options import sampling_options
from mlxbridge.errors import UsageError


def setting_names() -> list[str]:
    """What there is, by the library's names."""
    return list(vars(_parser().parse_args([])))


def parse_setting(name: str, value: str) -> dict[str, Any]:
    """The setting as the library takes it.

    Args:
        name: such as ``top_p``, or ``top-p``.
        value: as on the command line.

    Raises:
        UsageError: there is no such setting, or the value is none for it.
    """
    known = name.replace("-", "_")
    if known not in setting_names():
        raise UsageError(f"/set: there is no {name}; there are {', '.join(setting_names())}")
    parsed = vars(_parser().parse_args([f"--{known.replace('_', '-')}={value}"]))
    return {known: parsed[known]}


def _parser() -> argparse.ArgumentParser:
    return _SettingParser(add_help=False, allow_abbrev=False, parents=[sampling_options()])


class _SettingParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"/set: {message.removeprefix('argument --')}")
