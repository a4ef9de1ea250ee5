"""The commented file that ``mlxbridge-host init`` writes: every key, as it is when it is not given."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlxbridge.host.config.schema import ForModels, GatewayTable, HostTable, ModelTable
from mlxbridge.host.config.toml import write_value

_WIDTH = 110
_BEGINNING = """\
# The configuration of mlxbridge-host. `mlxbridge-host config check` tells what is wrong with it; SIGHUP has a running
# host read it again. A key that is commented out shows what it is anyway, or else an example. Paths begin at this
# file's folder. Each key of the first two parts is an option of `mlxbridge-host serve`, too (--max-batch), and an
# environment variable (MLXBRIDGE_HOST_MAX_BATCH); an option wins over a variable, a variable over this file.
# Sizes are in powers of 1024.
"""
_GATEWAY = """
# -- OpenAI's, Anthropic's and Ollama's APIs over HTTP, by a process beside the host; options and variables have the
# table's name before the keys': --gateway, --gateway-listen, MLXBRIDGE_HOST_GATEWAY_LISTEN

[gateway]

# Run it. A table without this key says so, too.
enabled = false
"""
_DEFAULTS = """
# -- what holds for all models that do not say otherwise in a table of their own

[defaults]
"""
_MODELS = """
# -- the models, each in a table that bears the name by which guests ask for it; all keys of [defaults] may be here, too

[models.demo]
"""


def write_template() -> str:
    """The file; as it is it configures the demo model, and all else as without a file."""
    own = [name for name in ModelTable.model_fields if name not in ForModels.model_fields]
    return "".join(
        [
            _BEGINNING,
            *_keys(
                HostTable,
                (name for name in HostTable.model_fields if name not in ("gateway", "defaults", "models")),
            ),
            _GATEWAY,
            *_keys(GatewayTable, (name for name in GatewayTable.model_fields if name != "enabled")),
            _DEFAULTS,
            *_keys(ForModels, ForModels.model_fields),
            _MODELS,
            *_keys(ModelTable, own),
        ]
    )


def _keys(table: type[BaseModel], names: Iterable[str]) -> Iterable[str]:
    for name in names:
        field = table.model_fields[name]
        extra: Any = field.json_schema_extra
        unset = f" Default: {extra['unset']}." if extra["unset"] else ""
        comment = textwrap.fill(
            f"{field.description}{unset}", _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        yield f"\n{comment}\n# {name} = {write_value(_shown(field))}\n"


def _shown(field: FieldInfo) -> Any:
    extra: Any = field.json_schema_extra
    return field.default if extra["example"] is None else extra["example"]
