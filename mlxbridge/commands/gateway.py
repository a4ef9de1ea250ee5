"""``mlxbridge gateway``: OpenAI's, Anthropic's and Ollama's APIs over HTTP, in front of a host."""

from __future__ import annotations

import argparse
import logging
import signal
from pathlib import Path
from typing import Any, get_args

from mlxbridge.answers import print_json
from mlxbridge.commands.variables import (
    Read,
    one_of,
    read_bytes,
    read_pause,
    read_seconds,
    read_yes_or_no,
    take_variables,
)
from mlxbridge.errors import UsageError
from mlxbridge.http_addresses import DEFAULT_HTTP_LISTEN, parse_http_listen, parse_origin
from mlxbridge.logs import LogFormat, start_logging

_LEVELS = ("debug", "info", "warning", "error")
_VARIABLES: dict[str, Read] = {
    "listen": str.split,
    "keys": str,
    "allow_anyone": read_yes_or_no,
    "cors_origin": lambda text: [parse_origin(origin) for origin in text.split()],
    "max_body": read_bytes,
    "timeout": read_seconds,
    "drain_timeout": read_pause,
    "log_level": one_of(*_LEVELS),
    "log_format": one_of(*get_args(LogFormat)),
    "log_prompts": read_yes_or_no,
}
"""How the environment variable of an option is read; in those of options that may be given several times are blanks."""


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    gateway = commands.add_parser(
        "gateway",
        help="serve OpenAI's, Anthropic's and Ollama's APIs over HTTP",
        description="Serve OpenAI's, Anthropic's and Ollama's APIs over HTTP, and a page at /, with the models of a host.",
        epilog="Each option but --url and --until-eof is an environment variable, too: MLXBRIDGE_GATEWAY_LISTEN, say, with blanks "
        "between several addresses, or MLXBRIDGE_GATEWAY_ALLOW_ANYONE=1. An option wins over its variable.",
    )
    gateway.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help=f"HOST[:PORT] (port 0: any free one) or unix:PATH; may be given several times; {DEFAULT_HTTP_LISTEN}",
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
        type=_read_origin,
        metavar="ORIGIN",
        help="let a web page's scripts ask, such as https://app.example; * for all",
    )
    gateway.add_argument("--max-body", type=read_bytes, metavar="BYTES", help="of a request; 33554432")
    gateway.add_argument(
        "--timeout", type=read_seconds, metavar="SECONDS", help="for each call; else as long as it takes"
    )
    gateway.add_argument(
        "--drain-timeout",
        type=read_pause,
        metavar="SECONDS",
        help="for what runs when it is to stop; 30",
    )
    gateway.add_argument("--log-level", choices=_LEVELS, help="of the least lines that are logged; info")
    gateway.add_argument("--log-format", choices=get_args(LogFormat), help="lines for people, or JSON; human")
    gateway.add_argument("--log-prompts", action="store_true", help="log prompts and answers, too")
    gateway.add_argument(
        "--until-eof",
        action="store_true",
        help="stop when standard input ends, as it does with the process that started this one; a line there is as SIGHUP",
    )
    gateway.add_argument("--json", action="store_true", help="print errors as JSON")
    gateway.set_defaults(command=_gateway)
    more = gateway.add_subparsers(metavar="")
    check = more.add_parser(
        "check", help="ask a gateway that runs here whether it is well, as a health check"
    )
    check.add_argument(
        "--listen", action="append", metavar="ADDRESS", help="as it was given; the first one is asked"
    )
    check.add_argument("--ready", action="store_true", help="ask for the host and a model behind it, too")
    check.add_argument("--timeout", type=read_seconds, default=8.0, metavar="SECONDS", help="8")
    check.add_argument("--json", action="store_true", help="print errors as JSON")
    check.set_defaults(command=_check)
    key = more.add_parser("key", help="make an API key")
    key.add_argument("name", help="whose it is; in the log, and for limits")
    key.add_argument(
        "--keys", metavar="FILE", help="add its hash to this file, which is made if it is not there"
    )
    key.add_argument("--json", action="store_true", help="print the key, and errors, as JSON")
    key.set_defaults(command=_key)


def _read_origin(text: str) -> str:
    try:
        return parse_origin(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _gateway(options: argparse.Namespace) -> None:
    from mlxbridge.guest.gateway.needs import check_needs

    check_needs()
    from mlxbridge.guest.gateway.server import serve
    from mlxbridge.guest.gateway.settings import (
        DRAIN_TIMEOUT_S,
        MAX_BODY_BYTES,
        Settings,
        check_open,
    )

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # it waits until somebody listens to it
    take_variables(options, "MLXBRIDGE_GATEWAY_", _VARIABLES)
    listens = tuple(map(parse_http_listen, options.listen or [DEFAULT_HTTP_LISTEN]))
    if options.keys is None:
        check_open(listens, allows_anyone=options.allow_anyone)
    start_logging(getattr(logging, (options.log_level or "info").upper()), options.log_format or "human")
    serve(
        Settings(
            listens=listens,
            url=options.url,
            keys_file=None if options.keys is None else Path(options.keys),
            cors_origins=tuple(options.cors_origin or ()),
            max_body_bytes=options.max_body or MAX_BODY_BYTES,
            timeout_s=options.timeout,
            drain_timeout_s=DRAIN_TIMEOUT_S if options.drain_timeout is None else options.drain_timeout,
            logs_prompts=options.log_prompts,
            ends_with_stdin=options.until_eof,
        )
    )


def _check(options: argparse.Namespace) -> None:
    from mlxbridge.guest.gateway.check import check

    take_variables(options, "MLXBRIDGE_GATEWAY_", {"listen": str.split})
    (listen, *_) = options.listen or [DEFAULT_HTTP_LISTEN]
    check(parse_http_listen(listen), is_ready=options.ready, timeout_s=options.timeout)


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
