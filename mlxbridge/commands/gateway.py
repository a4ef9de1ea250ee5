"""``mlxbridge gateway``: OpenAI's, Anthropic's and Ollama's APIs over HTTP, in front of a host."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from pathlib import Path
from typing import Any, get_args

from mlxbridge.answers import print_json
from mlxbridge.errors import UsageError
from mlxbridge.logs import LogFormat, start_logging

_NEEDED = ("httptools", "orjson", "prometheus_client", "starlette", "uvicorn", "uvloop")
_LEVELS = ("debug", "info", "warning", "error")


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    gateway = commands.add_parser(
        "gateway",
        help="serve OpenAI's, Anthropic's and Ollama's APIs over HTTP",
        description="Serve OpenAI's, Anthropic's and Ollama's APIs over HTTP, and a page at /, with the models of a host.",
    )
    gateway.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="HOST:PORT (port 0: any free one) or unix:PATH; may be given several times; 127.0.0.1:8000",
    )
    gateway.add_argument("--url", help="of the host; else MLXBRIDGE_URL, else the usual places")
    gateway.add_argument("--keys", metavar="FILE", help="API keys, as `mlxbridge gateway key` makes them")
    gateway.add_argument(
        "--allow-anyone",
        action="store_true",
        help="listen without keys where other machines may connect, as in a container's own network",
    )
    gateway.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let a web page's scripts ask; * for all",
    )
    gateway.add_argument("--max-body", type=int, metavar="BYTES", help="of a request; 33554432")
    gateway.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="for each call; else as long as it takes"
    )
    gateway.add_argument(
        "--drain-timeout", type=float, metavar="SECONDS", help="for what runs when it is to stop; 30"
    )
    gateway.add_argument("--log-level", choices=_LEVELS, default="info")
    gateway.add_argument("--log-format", choices=get_args(LogFormat), default="human")
    gateway.add_argument("--log-prompts", action="store_true", help="log prompts and answers, too")
    gateway.add_argument("--json", action="store_true", help="print errors as JSON")
    gateway.set_defaults(command=_gateway)
    key = gateway.add_subparsers(metavar="").add_parser("key", help="make an API key")
    key.add_argument("name", help="whose it is; in the log, and for limits")
    key.add_argument(
        "--keys", metavar="FILE", help="add its hash to this file, which is made if it is not there"
    )
    key.add_argument("--json", action="store_true", help="print the key, and errors, as JSON")
    key.set_defaults(command=_key)


def _gateway(options: argparse.Namespace) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the gateway needs {', '.join(missing)}: run pip install 'mlxbridge[gateway]' "
            "(from a checkout: pip install '.[gateway]')"
        )
    from mlxbridge.guest.gateway.server import serve
    from mlxbridge.guest.gateway.settings import (
        DEFAULT_LISTEN,
        DRAIN_TIMEOUT_S,
        MAX_BODY_BYTES,
        Settings,
        check_open,
        read_listens,
    )

    listens = read_listens(options.listen or [DEFAULT_LISTEN])
    if options.keys is None:
        check_open(listens, allows_anyone=options.allow_anyone)
    for name in ("timeout", "max_body", "drain_timeout"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name.replace('_', '-')} must be above 0, not {value:g}")
    start_logging(getattr(logging, options.log_level.upper()), options.log_format)
    serve(
        Settings(
            listens=listens,
            url=options.url,
            keys_file=None if options.keys is None else Path(options.keys),
            cors_origins=tuple(options.cors_origin),
            max_body_bytes=options.max_body or MAX_BODY_BYTES,
            timeout_s=options.timeout,
            drain_timeout_s=options.drain_timeout or DRAIN_TIMEOUT_S,
            logs_prompts=options.log_prompts,
        )
    )


def _key(options: argparse.Namespace) -> None:
    from mlxbridge.guest.gateway.callers import add_caller, make_key

    key, digest = make_key()
    if options.keys is None:
        table = f'[{options.name}]\nsha256 = "{digest}"\n'
    else:
        table = ""
        add_caller(Path(options.keys), options.name, digest)
    if options.json:
        print_json({"name": options.name, "key": key, "sha256": digest})
        return
    print(key)
    if table:
        print(f"\nIn the file for --keys:\n\n{table}", end="")
