"""``mlxbridge embed`` and ``mlxbridge rerank``: texts to vectors and scores, a line each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, cast, get_args

from mlxbridge.answers import harmless, print_json
from mlxbridge.commands.options import connect, host_options
from mlxbridge.commands.texts import read_lines
from mlxbridge.commands.vector_file import writing
from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.types import EmbedOptions, RerankOptions, VectorType

_CALL_TEXTS = 1024
_CALL_BYTES = 1 << 20


def add_commands(commands: Any) -> None:
    """Both, for what ``add_subparsers`` gave."""
    host = host_options()
    lines = "a text a line from stdin"
    embed = commands.add_parser("embed", parents=[host], help="turn texts into vectors", reads_stdin=lines)
    embed.add_argument(
        "text",
        nargs="+",
        help="each becomes a line, a JSON list; - reads a text a line from stdin. With --out: a file with a text a line, "
        "or -",
    )
    embed.add_argument(
        "--out",
        metavar="FILE",
        help="write the vectors there, one for each line: .npy (numpy's format) or .jsonl (a JSON list a line)",
    )
    _add_common(embed)
    prompt = embed.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="put this before every text")
    prompt.add_argument("--prompt-name", metavar="NAME", help="the same, by its name in the model's files")
    embed.add_argument(
        "--dimensions", type=int, metavar="COUNT", help="keep so many first numbers of each vector"
    )
    embed.add_argument("--dtype", choices=get_args(VectorType), help="of the vectors (default: float32)")
    embed.add_argument(
        "--no-normalize",
        dest="normalize",
        action="store_const",
        const=False,
        help="leave vectors as long as the model makes them",
    )
    embed.set_defaults(command=_embed)

    rerank = commands.add_parser(
        "rerank",
        parents=[host],
        help="order documents by how well they answer a query",
        reads_stdin=f"documents, {lines}",
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
    given = cast(EmbedOptions, _given(options, EmbedOptions))
    if options.out is not None:
        _embed_file(options, given)
        return
    texts = _read(options.text)
    with connect(options) as client:
        found = client.embed(texts, **given)
    vectors = found.tolist()
    if options.json:
        told = {"model": found.model, "shape": found.shape, "dtype": found.dtype}
        print_json({**told, "vectors": vectors, "usage": asdict(found.usage)})
        return
    for vector in vectors:
        print(json.dumps(vector))


def _embed_file(options: argparse.Namespace, given: EmbedOptions) -> None:
    """The lines of a file to vectors in another, some at a time."""
    if len(options.text) > 1:
        raise UsageError("--out: takes one file of texts, a line each, or -; without it, arguments are texts")
    (source,) = options.text
    count = prompt_tokens = 0
    is_shown = sys.stderr.isatty() and not options.json
    shape: tuple[int, ...] = (0, 0)
    with writing(options.out) as writer, connect(options) as client:
        for texts in portions(read_lines(source)):
            try:
                found = client.embed(texts, **given)
            except BridgeError as error:
                error.add_note(f"of lines {count + 1}-{count + len(texts)}")
                raise
            writer.add(found)
            count, shape = count + found.shape[0], found.shape
            prompt_tokens += found.usage.prompt_tokens
            if is_shown:
                print(f"\r\033[K{count} texts", end="", file=sys.stderr, flush=True)
    if is_shown:
        print("\r\033[K", end="", file=sys.stderr)
    if options.json:
        print_json({"out": options.out, "shape": (count, shape[1]), "prompt_tokens": prompt_tokens})
    else:
        print(f"{options.out}: {count} vectors of {shape[1]} numbers, from {prompt_tokens} tokens")


def portions(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists that a call each may take."""
    portion: list[str] = []
    num_bytes = 0
    for text in texts:
        size = len(text.encode())
        if portion and (len(portion) == _CALL_TEXTS or num_bytes + size > _CALL_BYTES):
            yield portion
            portion, num_bytes = [], 0
        portion.append(text)
        num_bytes += size
    if portion:
        yield portion


def _rerank(options: argparse.Namespace) -> None:
    documents = _read(options.document)
    with connect(options) as client:
        found = client.rerank(options.query, documents, **cast(RerankOptions, _given(options, RerankOptions)))
    if options.json:
        print_json(asdict(found))
        return
    for one in found:
        print(harmless(f"{one.score:.4f}\t{one.index}\t{one.document}"))


def _read(arguments: list[str]) -> list[str]:
    if arguments == ["-"]:
        return list(read_lines("-"))
    if "-" in arguments:
        raise UsageError("-: reads texts from stdin, and so stands alone")
    return arguments


def _given(options: argparse.Namespace, known: type) -> dict[str, Any]:
    """What was given of a method's options; one that was not keeps the library's default."""
    given = {name: getattr(options, name, None) for name in known.__annotations__ if name != "timeout"}
    return {name: value for name, value in given.items() if value is not None}
