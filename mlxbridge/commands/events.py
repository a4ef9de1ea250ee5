"""``mlxbridge events``: what happens on the host, a line each."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlxbridge.answers import print_json
from mlxbridge.commands.options import host_options
from mlxbridge.events import EVENT_KINDS, Event, ReloadEvent, RequestEvent

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    watch = commands.add_parser(
        "events",
        parents=[host_options(timeout="for all of it", json="print a JSON object a line; errors too")],
        help="watch what happens on the host",
    )
    watch.add_argument(
        "kind", nargs="*", metavar="KIND", help=f"only these: {', '.join(EVENT_KINDS)}; all if none is named"
    )
    watch.set_defaults(command=_watch)


def _watch(options: argparse.Namespace) -> None:
    from mlxbridge.guest.blocking import Client

    client: Client
    with (
        Client(options.url) as client,
        client.subscribe(options.kind or None, timeout=options.timeout) as told,
    ):
        for event in told:
            if options.json:
                print_json(_known(event))
            else:
                print(describe_event(event), flush=True)


def describe_event(event: Event) -> str:
    """One line for people; what others wrote in it, such as the name of a method, does nothing to a terminal."""
    line = _describe(event)
    return line if line.isprintable() else "".join(map(_shown, line))


def _shown(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _describe(event: Event) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(event.at))
    if isinstance(event, RequestEvent):
        return f"{clock} request {_describe_request(event)}"
    facts = [
        f"{name}: {', '.join(value)}" if isinstance(value, tuple) else str(value)
        for name, value in _known(event).items()
        if name not in ("kind", "at") and value not in ("", ())
    ]
    separator = "; " if isinstance(event, ReloadEvent) else " "
    return f"{clock} {event.kind} {separator.join(facts)}".rstrip()


def _describe_request(event: RequestEvent) -> str:
    model = f" of {event.model}" if event.model else ""
    outcome = event.error or event.finish_reason or "ok"
    facts = [f"{event.request_id} {event.method}{model} for {event.guest}: {outcome}"]
    if event.completion_tokens is not None:
        facts.append(f"{event.prompt_tokens} + {event.completion_tokens} tokens")
    if event.ttft_ms is not None:
        facts.append(f"first after {event.ttft_ms:.0f} ms")
    return ", ".join([*facts, f"{event.total_ms:.0f} ms"])


def _known(event: Event) -> dict[str, Any]:
    return {name: value for name, value in asdict(event).items() if value is not None}
