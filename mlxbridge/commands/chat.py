"""``mlxbridge chat``: a conversation with a model."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from mlxbridge.answers import describe, print_stream
from mlxbridge.commands.options import (
    connect,
    host_options,
    sampling_of,
    sampling_options,
    stats_option,
    system_turn,
)
from mlxbridge.errors import BridgeError

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client
    from mlxbridge.guest.streams import TokenStream
    from mlxbridge.types import Message

_CHAT_HELP = "Ctrl-C stops an answer, /reset starts afresh, /exit or Ctrl-D ends the chat."


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    parents = [host_options(), sampling_options(), stats_option()]
    chat = commands.add_parser("chat", parents=parents, help="talk with a model")
    chat.add_argument("--system", metavar="TEXT", help="a system message at the start")
    chat.set_defaults(command=_chat)


def _chat(options: argparse.Namespace) -> None:

    messages = system_turn(options)
    print(_CHAT_HELP, file=sys.stderr)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (input() then has a history and can be edited)
    with connect(options) as client:
        while (line := _ask()) is not None:
            if not line.strip():
                continue
            if line.startswith("/"):
                if line.strip() == "/exit":
                    break
                if line.strip() == "/reset":
                    messages = system_turn(options)
                else:
                    print(_CHAT_HELP, file=sys.stderr)
                continue
            messages.append({"role": "user", "content": line})
            try:
                answer = _chat_turn(client, messages, options)
            except BridgeError as error:  # the conversation is worth more than the turn
                print(f"{type(error).__name__}: {error.message}", file=sys.stderr)
                messages.pop()
            else:
                messages.append({"role": "assistant", "content": answer})


def _chat_turn(client: Client, messages: list[Message], options: argparse.Namespace) -> str:
    stream: TokenStream = client.chat(messages, stream=True, **sampling_of(options))
    try:
        print_stream(stream)
        if options.stats:
            print(describe(stream.generation), file=sys.stderr)
    except KeyboardInterrupt:
        print("(stopped)")
    return stream.text


def _ask() -> str | None:
    try:
        return input("> ")
    except EOFError:
        print()
        return None
