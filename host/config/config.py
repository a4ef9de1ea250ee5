"""Everything that a daemon needs to start, put together from what was configured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlxbridge.addresses import Activation, Listen, UnixAddress
from mlxbridge.errors import UsageError
from mlxbridge.host.access import check_tokens
from mlxbridge.host.config.file import read_tables
from mlxbridge.host.config.limits import make_limits
from mlxbridge.host.config.models import choose_tables, keep_alive_s, make_models
from mlxbridge.host.config.overrides import Overrides
from mlxbridge.host.config.places import socket_file
from mlxbridge.host.config.problems import Problems
from mlxbridge.host.config.schema import RESUME_GRACE_S, ForModels, GatewayTable, HostTable, ModelTable
from mlxbridge.host.config.tokens import read_tokens
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource
from mlxbridge.host.params import nearest
from mlxbridge.logs import LogFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A checked configuration.

    Attributes:
        listens: where guests may connect.
        models: those that guests may use.
        limits: of models that are not configured, but were pulled.
        keep_alive_s: of these, too.
        tokens: secret by guest name; None lets everyone in who reaches the socket.
        default_model: for calls that name none; None: they are refused.
        observers: guests, by name, that are told of all others' calls and connections.
        memory_bytes: that all loaded models may take together; None: what the device recommends.
        allow_pull: guests may have models fetched from the hub.
        metrics: where they may be asked for; None: nowhere.
        gateway: whether one is run beside the host, and how.
        drain_timeout_s: how long running calls may go on after SIGTERM.
        resume_grace_s: how long calls wait for a guest whose link broke.
        log_level: of the least lines that are logged, as ``logging`` counts.
        log_format: of these.
        log_prompts: they say how what guests ask begins, too.
    """

    listens: tuple[Listen | Activation, ...]
    models: tuple[ModelSettings, ...]
    limits: EngineLimits
    keep_alive_s: float | None
    tokens: dict[str, bytes] | None
    memory_bytes: int | None
    allow_pull: bool
    drain_timeout_s: float
    log_level: int
    default_model: str | None = None
    observers: frozenset[str] = frozenset()
    resume_grace_s: float = RESUME_GRACE_S
    metrics: Listen | None = None
    gateway: GatewayTable = field(default_factory=GatewayTable)
    log_format: LogFormat = "human"
    log_prompts: bool = False

    @property
    def model_names(self) -> frozenset[str]:
        """Names of the models, without aliases."""
        return frozenset(settings.name for settings in self.models)

    @property
    def make_settings(self) -> Callable[[ModelSource], ModelSettings] | None:
        """How models are run that guests have pulled; None: they may not."""
        if not self.allow_pull:
            return None
        return lambda source: ModelSettings(
            name=source.name,
            source=source,
            preload=False,
            keep_alive_s=self.keep_alive_s,
            limits=self.limits,
        )


def read_config(path: Path | None, overrides: Overrides) -> Config:
    """Read the file, None if there is none, and what overrides it.

    Raises:
        UsageError: the configuration is wrong: all that is, a line for each problem.
    """
    table, origins = read_tables(path, overrides)
    problems = Problems(origins)
    listens = tuple(table.listen) or (Listen(UnixAddress(str(socket_file()))),)
    tokens = _read_tokens(table, problems)
    if table.token_file is None:
        _check_listens(listens, problems)
    _check_observers(table, tokens, problems)
    _check_gateway(table.gateway, problems)
    folder = None if path is None else path.absolute().parent
    tables = choose_tables(table, overrides, problems)
    models = make_models(tables, table.defaults, problems, folder)
    limits = _make_limits(table.defaults, problems)
    default_model = _choose_default(table.default_model, tables, problems)
    problems.raise_if_any()
    return Config(
        listens=listens,
        models=models,
        limits=limits,
        keep_alive_s=keep_alive_s(table.defaults),
        tokens=tokens,
        default_model=default_model,
        observers=frozenset(table.observers),
        memory_bytes=table.memory,
        allow_pull=table.allow_pull,
        metrics=table.metrics,
        gateway=table.gateway,
        drain_timeout_s=table.drain_timeout,
        resume_grace_s=table.resume_grace,
        log_level=logging.getLevelNamesMapping()[table.log_level.upper()],
        log_format=table.log_format,
        log_prompts=table.log_prompts,
    )


def _read_tokens(table: HostTable, problems: Problems) -> dict[str, bytes] | None:
    if table.token_file is None:
        return None
    try:
        return read_tokens(table.token_file)
    except UsageError as error:
        problems.add(("token_file",), error.message)
        return None


def _check_listens(listens: tuple[Listen | Activation, ...], problems: Problems) -> None:
    for listen in listens:
        if isinstance(listen, Listen):
            try:
                check_tokens(listen, None)
            except UsageError as error:
                problems.add(("listen",), error.message)


def _check_gateway(gateway: GatewayTable, problems: Problems) -> None:
    if gateway.enabled and gateway.keys is None and not gateway.allow_anyone:
        for listen in gateway.listen:
            if not listen.is_local:
                problems.add(
                    ("gateway", "listen"),
                    f"{listen}: whoever reaches the port could use the models; name a file of keys "
                    "(`mlxbridge gateway key NAME` makes one), or set allow_anyone where only those can reach it who may",
                )


def _check_observers(table: HostTable, tokens: Mapping[str, bytes] | None, problems: Problems) -> None:
    if table.observers and table.token_file is None:
        problems.add(("observers",), "without token_file everybody is told of all")
    for name in table.observers:
        if tokens is not None and name not in tokens:
            near = nearest(name, tokens)
            hint = f"; did you mean {near}?" if near else ""
            problems.add(("observers",), f"{table.token_file} has no token named {name}{hint}")


def _choose_default(wanted: str | None, tables: Mapping[str, ModelTable], problems: Problems) -> str | None:
    if wanted is None:
        return next(iter(tables)) if len(tables) == 1 else None
    owners = {name: model for model, own in tables.items() for name in (model, *own.aliases)}
    if wanted not in owners:
        near = nearest(wanted, owners)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(sorted(owners))}"
        problems.add(("default_model",), f"no model that is served is named {wanted}; {hint}")
    return owners.get(wanted)


def _make_limits(defaults: ForModels, problems: Problems) -> EngineLimits:
    try:
        return make_limits(defaults)
    except UsageError as error:
        problems.add(("defaults", str(error.details.get("field", ""))), error.message)
        return EngineLimits()
