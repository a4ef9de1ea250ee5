"""``mlxbridge embed`` and ``mlxbridge rerank``: texts to vectors and scores, a line each."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, cast

from mlxbridge.commands.options import connect, host_options
from mlxbridge.errors import UsageError
from mlxbridge.types import EmbedOptions, RerankOptions


def add_commands(commands: Any) -> None:
    """Both, for what ``add_subparsers`` gave."""
    host = host_options()
    embed = commands.add_parser("embed", parents=[host], help="turn texts into vectors")
    embed.add_argument(
        "text", nargs="+", help="each becomes a line, a JSON list; - reads a text a line from stdin"
    )
    _add_common(embed)
    prompt = embed.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="put this before every text")
    prompt.add_argument("--prompt-name", metavar="NAME", help="the same, by its name in the model's files")
    embed.add_argument(
        "--dimensions", type=int, metavar="COUNT", help="keep so many first numbers of each vector"
    )
    embed.add_argument(
        "--no-normalize",
        dest="normalize",
        action="store_const",
        const=False,
        help="leave vectors as long as the model makes them",
    )
    embed.set_defaults(command=_embed)

    rerank = commands.add_parser(
        "rerank", parents=[host], help="order documents by how well they answer a query"
    )
    rerank.add_argument("query")
    rerank.add_argument(
        "document", nargs="+", help="each becomes a line: score, index, text; - reads one a line from stdin"
    )
    _add_common(rerank)
    rerank.add_argument("--top-n", type=int, metavar="COUNT", help="print so many of the best")
    rerank.set_defaults(command=_rerank)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", help="its name at the host; not needed where the host serves one, or has a default"
    )
    command.add_argument(
        "--truncate",
        action="store_const",
        const=True,
        help="cut what is over the model's limit, not refuse it",
    )


def _embed(options: argparse.Namespace) -> None:
    texts = _read(options.text)
    with connect(options) as client:
        found = client.embed(texts, **cast(EmbedOptions, _given(options, EmbedOptions)))
    for vector in found.tolist():
        print(json.dumps(vector))


def _rerank(options: argparse.Namespace) -> None:
    documents = _read(options.document)
    with connect(options) as client:
        found = client.rerank(options.query, documents, **cast(RerankOptions, _given(options, RerankOptions)))
    for one in found:
        print(f"{one.score:.4f}\t{one.index}\t{one.document}")


def _read(arguments: list[str]) -> list[str]:
    if arguments == ["-"]:
        return sys.stdin.read().splitlines()
    if "-" in arguments:
        raise UsageError("-: reads texts from stdin, and so stands alone")
    return arguments


def _given(options: argparse.Namespace, known: type) -> dict[str, Any]:
    """What was given of a method's options; one that was not keeps the library's default."""
    given = {name: getattr(options, name, None) for name in known.__annotations__ if name != "timeout"}
    return {name: value for name, value in given.items() if value is not None}
