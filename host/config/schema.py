"""Every key of the configuration: its type, what it is when it is not given, and what it is for.

Flags, environment variables and the commented file that ``mlxbridge-host init`` writes come from here too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from mlxbridge.host.config.values import (
    HttpAddress,
    KeepAlive,
    ListenAddress,
    Memory,
    MetricsAddress,
    Name,
    Origin,
    Place,
    Sampling,
    Size,
    Source,
)
from mlxbridge.host.engine.interface import DEFAULT_SINKS, GROUP_SIZES, KV_BITS, EngineLimits
from mlxbridge.host.models.settings import DEFAULT_KEEP_ALIVE_S
from mlxbridge.http_addresses import DEFAULT_HTTP_LISTEN
from mlxbridge.logs import LogFormat

DRAIN_TIMEOUT_S = 30.0
RESUME_GRACE_S = 30.0
_MOST_GRACE_S = 3_600
_MOST_DRAIN_S = 86_400
_MOST_TOKENS = 1 << 30
_LIMITS = EngineLimits()


def _key(
    default: Any, description: str, *, example: Any = None, unset: str = "", metavar: str = "", **bounds: Any
) -> Any:
    """A key.

    Args:
        example: a value to show where the default is none.
        unset: says what is done if it is not given, where no default tells that.
        metavar: stands for the value in the help of the flag.
        bounds: such as ``ge``, as pydantic's ``Field`` takes them.
    """
    extra = {"example": example, "unset": unset, "metavar": metavar}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class Table(BaseModel):
    """A table of the file; a key that it does not have is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def under(self, above: Table) -> Self:
        """This table with those of its keys that ``above`` was given."""
        given = above.model_fields_set & type(self).model_fields.keys()
        return self.model_copy(update={name: getattr(above, name) for name in given})


class ForModels(Table):
    """What may be said for all models, in ``[defaults]``, and for each in its own table."""

    keep_alive: KeepAlive = _key(
        DEFAULT_KEEP_ALIVE_S,
        'Unload a model that was not used for so long: "30m", seconds, 0 (at once) or -1 (never).',
        example="30m",
        unset="30m",
        metavar="TIME",
    )
    max_batch: int = _key(
        _LIMITS.max_batch, "Calls that a model runs at once.", metavar="CALLS", ge=1, le=1024
    )
    max_waiting: int = _key(
        _LIMITS.max_waiting,
        "Calls that may wait for a model, for a place or for memory; more are refused as overloaded.",
        metavar="CALLS",
        ge=0,
        le=4096,
    )
    kv_memory: Memory | None = _key(
        None,
        "Memory for the caches of a model's running calls, such as 8GB.",
        example="8GB",
        unset="what the device has left",
        metavar="SIZE",
    )
    prefix_cache: Size | None = _key(
        None,
        "Memory for what a model has read before, such as 512MB; 0: none.",
        example="512MB",
        unset="an eighth of what the device has left, at most 2GB",
        metavar="SIZE",
    )
    prefix_disk: Size | None = _key(
        None,
        "Disk space for the same, of all models together, such as 20GB: it outlives the host.",
        example="20GB",
        unset="none",
        metavar="SIZE",
    )
    prefix_disk_folder: Place | None = _key(
        None,
        "Where; nobody else may enter it.",
        example="~/.cache/mlxbridge/prefixes",
        unset="mlxbridge/prefixes in your folder for caches",
        metavar="FOLDER",
    )
    kv_bits: int | None = _key(
        None,
        f"Keep each number of keys and values in so many bits: {' or '.join(map(str, KV_BITS))}.",
        example=8,
        unset="as the model computes them",
        metavar="BITS",
    )
    kv_group_size: int | None = _key(
        None,
        f"Numbers that share a scale with kv_bits: {', '.join(map(str, GROUP_SIZES))}.",
        example=64,
        unset="64, or 32 where 64 does not divide a head",
        metavar="NUMBERS",
    )
    kv_window: int | None = _key(
        None,
        "Let each token see so many, itself and the first ones among them, in answers and prompts of any length.",
        example=4096,
        unset="all",
        metavar="TOKENS",
        ge=1,
        le=_MOST_TOKENS,
    )
    kv_sinks: int | None = _key(
        None,
        "How many of kv_window are the first ones of all.",
        example=DEFAULT_SINKS,
        unset=str(DEFAULT_SINKS),
        metavar="TOKENS",
        ge=0,
    )


TEXT_LIMITS = tuple(name for name in ForModels.model_fields if name.startswith(("kv_", "prefix_")))
"""Keys that only a model which generates text has a use for."""


class ModelTable(ForModels):
    """``[models.NAME]``."""

    source: Source | None = _key(
        None,
        "demo, a folder in MLX format, or a Hugging Face id.",
        example="mlx-community/Qwen3-4B-4bit",
        unset="the model's name",
    )
    aliases: list[Name] = _key([], "Other names for it.", example=["gpt-4o-mini"])
    draft_model: Source | None = _key(
        None,
        "A smaller model of the same vocabulary that drafts what the model checks: the same answers, sooner.",
        example="mlx-community/Qwen3-0.6B-4bit",
        unset="none",
    )
    adapters: dict[Name, Place] = _key(
        {},
        "Folders of LoRA adapters by name; guests ask for NAME+ADAPTER.",
        example={"pirate": "~/adapters/pirate"},
    )
    preload: bool = _key(False, "Load it when the host starts, not with the first call.")
    pin: bool = _key(False, "Once loaded, unload it neither to make room for others nor when nobody uses it.")
    max_context: int | None = _key(
        None,
        "Tokens of prompt and answer together.",
        example=32768,
        unset="as many as the model takes",
        ge=1,
        le=_MOST_TOKENS,
    )
    chat_template: Place | None = _key(
        None,
        "A file with a chat template (Jinja) in place of the model's own.",
        example="chat.jinja",
        unset="the model's own",
    )
    sampling: Sampling = _key(
        {},
        "Params of generate for calls that leave them out.",
        example={"temperature": 0.7, "top_p": 0.95},
    )


class GatewayTable(Table):
    """``[gateway]``."""

    enabled: bool = _key(
        False,
        "Run `mlxbridge gateway` beside the host: OpenAI's, Anthropic's and Ollama's APIs over HTTP. This table says so "
        "without it, and so does `gateway = true` in its place.",
    )
    listen: list[HttpAddress] = _key(
        [],
        "Where it listens for HTTP: HOST[:PORT] or unix:PATH[?mode=0666].",
        example=[DEFAULT_HTTP_LISTEN],
        unset=DEFAULT_HTTP_LISTEN,
        metavar="ADDRESS",
    )
    keys: Place | None = _key(
        None,
        "API keys, as `mlxbridge gateway key` makes them. Required where other machines may connect.",
        example="keys.toml",
        unset="whoever reaches the address may ask",
        metavar="FILE",
    )
    allow_anyone: bool = _key(False, "Listen without keys where other machines may connect.")
    cors_origins: list[Origin] = _key(
        [],
        "Web pages whose scripts may ask, such as https://app.example; * for all.",
        unset="none",
        metavar="ORIGIN",
    )
    max_body: Memory | None = _key(
        None, "The largest request, such as 64MB.", example="32MB", unset="32MB", metavar="SIZE"
    )
    timeout: float | None = _key(
        None,
        "Seconds for each call.",
        example=600.0,
        unset="as long as it takes",
        metavar="SECONDS",
        gt=0,
        allow_inf_nan=False,
    )


def spelled_out(value: Any) -> Any:
    """The gateway's table for ``true`` and ``false``; one that is there means that it is wanted."""
    if isinstance(value, bool):
        return {"enabled": value}
    return {"enabled": True, **value} if isinstance(value, dict) else value


class HostTable(Table):
    """The whole file."""

    listen: list[ListenAddress] = _key(
        [],
        "Where guests may connect: unix:PATH[?mode=0666], tcp:HOST:PORT or vsock:PORT, or what the service manager hands "
        "down: launchd:NAME, systemd[:NAME].",
        example=["unix:/run/mlxbridge/mlxbridge.sock?mode=0666", "tcp:127.0.0.1:2048"],
        unset="unix:~/.mlxbridge/run/mlxbridge.sock",
        metavar="ADDRESS",
    )
    token_file: Place | None = _key(
        None,
        "Tokens that guests must prove to have, one a line: NAME:SECRET or SECRET. Required for tcp.",
        example="tokens",
        unset="whoever reaches a socket may use it",
        metavar="FILE",
    )
    observers: list[str] = _key(
        [],
        "Names of tokens whose guests are told in events of all others' calls and connections, not of their own alone.",
        example=["monitor"],
        unset="none",
        metavar="NAME",
    )
    memory: Memory | None = _key(
        None,
        "Memory that all loaded models may take together, such as 48GB.",
        example="48GB",
        unset="what the device recommends",
        metavar="SIZE",
    )
    default_model: Name | None = _key(
        None,
        "The model, or an alias of it, for calls that name none.",
        example="demo",
        unset="the only one; of several a call has to name one",
        metavar="MODEL",
    )
    allow_pull: bool = _key(False, "Guests may have models fetched from the Hugging Face hub, and use them.")
    drain_timeout: float = _key(
        DRAIN_TIMEOUT_S,
        "Seconds that running calls may go on after SIGTERM.",
        metavar="SECONDS",
        ge=0,
        le=_MOST_DRAIN_S,
        allow_inf_nan=False,
    )
    resume_grace: float = _key(
        RESUME_GRACE_S,
        "Seconds for which the calls of a guest whose link broke wait for it to come back; 0: not at all.",
        metavar="SECONDS",
        ge=0,
        le=_MOST_GRACE_S,
        allow_inf_nan=False,
    )
    metrics: MetricsAddress | None = _key(
        None,
        "Where Prometheus may ask for metrics, over HTTP at /metrics: tcp:127.0.0.1:PORT or unix:PATH.",
        example="tcp:127.0.0.1:9090",
        unset="nowhere",
        metavar="ADDRESS",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _key("info", "The least lines that are logged.")
    log_format: LogFormat = _key("human", "Log lines for people, or a JSON object a line.")
    log_prompts: bool = _key(False, "Log the first 1000 characters of what guests ask, too.")
    gateway: Annotated[GatewayTable, BeforeValidator(spelled_out)] = _key(
        GatewayTable(), "An HTTP gateway beside the host: true, or a table."
    )
    defaults: ForModels = _key(ForModels(), "For all models that do not say otherwise in their own table.")
    models: dict[Name, ModelTable] = _key({}, "The models that guests may use, by name.")


def field_of(key: tuple[str, ...]) -> FieldInfo:
    """The field of a key of the host, of ``[gateway]`` or of ``[defaults]``."""
    tables: dict[tuple[str, ...], type[Table]] = {(): HostTable, ("gateway",): GatewayTable}
    return tables.get(key[:-1], ForModels).model_fields[key[-1]]
