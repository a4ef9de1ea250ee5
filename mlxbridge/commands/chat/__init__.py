"""``mlxbridge chat``: a conversation with a model, for a person at a terminal or from a pipe."""

from __future__ import annotations

import argparse
from typing import Any

from mlxbridge.commands.options import (
    connect,
    host_options,
    sampling_of,
    sampling_options,
    show_loading,
    stats_option,
)


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    json = "print each answer as a JSON object a line; errors too"
    parents = [host_options(json=json), sampling_options(), stats_option()]
    chat = commands.add_parser("chat", parents=parents, help="talk with a model")
    beginning = chat.add_mutually_exclusive_group()
    beginning.add_argument("--system", metavar="TEXT", help="a system message at the start")
    beginning.add_argument("--load", metavar="FILE", help="go on with a conversation that /save wrote")
    chat.add_argument(
        "--no-history",
        dest="keeps_history",
        action="store_false",
        help="do not keep what is typed, for the arrow keys of later chats",
    )
    chat.set_defaults(command=_chat)


def _chat(options: argparse.Namespace) -> None:
    from mlxbridge.commands.chat.entry import open_entry
    from mlxbridge.commands.chat.repl import Chat

    entry = open_entry(keeps_history=options.keeps_history, is_plain=options.json)
    with connect(options) as client:
        show_loading(client, options.model)
        chat = Chat(
            client,
            sampling_of(options),
            system=options.system,
            is_person=entry.is_person,
            shows_stats=options.stats,
            as_json=options.json,
        )
        if options.load is not None:
            chat.load(options.load)
        chat.run(entry)
