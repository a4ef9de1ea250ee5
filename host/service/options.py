"""The options of ``serve`` that a service is installed with, in words that mean the same wherever it runs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import click
from click.core import ParameterSource

from mlxbridge.host.models.store.source import DEMO

PATHS = ("FILE", "FOLDER")
"""What stands for a path in the help of an option."""
_MODELS = ("model", "draft-model")


def spell(context: click.Context, *, leave_out: Collection[str], names: Collection[str]) -> tuple[str, ...]:
    """Every option that is not at its default, whether the command line or the environment gave it.

    A service has neither the folder nor the environment of who installs it: paths are absolute here.

    Args:
        context: of a command, its options parsed.
        leave_out: options, such as ``listen``.
        names: of models, which are not taken for folders.
    """
    words: list[str] = []
    for option in context.command.params:
        if not isinstance(option, click.Option) or option.name is None or _name(option) in leave_out:
            continue
        if context.get_parameter_source(option.name) in (
            ParameterSource.COMMANDLINE,
            ParameterSource.ENVIRONMENT,
        ):
            words += _spell(option, context.params[option.name], names)
    return tuple(words)


def _spell(option: click.Option, value: object, names: Collection[str]) -> Iterator[str]:
    if option.is_flag:
        yield (option.opts if value else option.secondary_opts)[0]
        return
    for one in value if isinstance(value, tuple) else (value,):
        yield option.opts[0]
        yield _anywhere(option, str(one), names)


def _anywhere(option: click.Option, text: str, names: Collection[str]) -> str:
    if isinstance(option.type, click.Path) or option.metavar in PATHS:
        return _absolute(text)
    if _name(option) in _MODELS:
        left, equals, right = text.partition("=")  # MODEL=DRAFT
        return f"{_model(left, names)}{equals}{_model(right, names)}"
    return text


def _model(text: str, names: Collection[str]) -> str:
    is_name = not text or text == DEMO or text in names
    return text if is_name or not Path(text).expanduser().is_dir() else _absolute(text)


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _name(option: click.Option) -> str:
    return option.opts[0].removeprefix("--")
