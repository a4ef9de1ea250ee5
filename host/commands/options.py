"""Options that are keys of the configuration, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from click.core import ParameterSource
from pydantic.fields import FieldInfo

from mlxbridge.host.config.overrides import (
    DRAFT_MODELS,
    FLAG_KEYS,
    MODELS,
    Overrides,
    as_flags,
    flag,
    option_name,
    variable,
)
from mlxbridge.host.config.places import config_file
from mlxbridge.host.config.schema import field_of

Command = Callable[..., Any]


def config_option(command: Command) -> Command:
    """``--config FILE``; the command gets ``config``, None for the usual place."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=variable("config"),
        help=f"The configuration. [default: {config_file()}]",
    )(command)


def chosen_file(config: Path | None) -> Path | None:
    """The file to read: the one that was named, else the usual one if there is one."""
    if config is not None:
        return config
    return usual if (usual := config_file()).exists() else None


def key_options(command: Command) -> Command:
    """An option for each key that is one, ``--model`` and ``--draft-model``; read them with ``read_overrides``."""
    for key in reversed(FLAG_KEYS):
        command = _option(option_name(key), field_of(key))(command)
    command = click.option(
        "--draft-model",
        multiple=True,
        metavar="[MODEL=]NAME_OR_PATH",
        envvar=variable("draft_model"),
        help="A smaller model of the same vocabulary that drafts what the model checks, several tokens at a time: the "
        "same answers, sooner. May be given for each model.",
    )(command)
    return click.option(
        "--model",
        multiple=True,
        metavar="NAME_OR_PATH",
        envvar=variable("model"),
        help="A configured model, demo, a folder in MLX format, or a Hugging Face id; may be given several times. "
        "[default: those in the file, or else demo]",
    )(command)


def read_overrides(context: click.Context) -> Overrides:
    """What the command's options and variables say, of those that ``key_options`` made."""
    keys = {option_name(key): key for key in (*FLAG_KEYS, MODELS, DRAFT_MODELS)}
    names = {
        key: _name(context, name)
        for name, key in keys.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    params = context.params
    return Overrides(
        values={key: _plain(params[option_name(key)]) for key in names if key in FLAG_KEYS},
        names=names,
        models=params["model"],
        draft_models=params["draft_model"],
    )


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    extra: Any = field.json_schema_extra
    default = extra["unset"] or field.default
    names, settings = [flag(name)], {"metavar": extra["metavar"] or None}
    help_text = as_flags(field.description or "")
    if field.annotation is bool:
        names, settings = [f"{flag(name)}/{flag(f'no_{name}')}"], {}
    elif get_origin(field.annotation) is Literal:
        settings["type"] = click.Choice(get_args(field.annotation))
    elif get_origin(field.annotation) is list:
        settings["multiple"] = True
        help_text = f"{help_text.removesuffix('.')}; may be given several times."
    if field.annotation is not bool:
        help_text += f" [default: {default}]"
    return click.option(*names, name, default=None, envvar=variable(name), help=help_text, **settings)


def _name(context: click.Context, name: str) -> str:
    is_variable = context.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    return variable(name) if is_variable else flag(name)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
