"""``mlxbridge generate``: an answer to one prompt."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from mlxbridge.answers import describe, plain, print_answers, print_logprobs, print_stream
from mlxbridge.commands.options import (
    connect,
    host_options,
    sampling_of,
    sampling_options,
    stats_option,
    system_turn,
)
from mlxbridge.errors import UsageError
from mlxbridge.types import GenerateOptions

if TYPE_CHECKING:
    from mlxbridge.guest.streams import TokenStream
    from mlxbridge.types import Generation, Message


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    parents = [host_options(), sampling_options(), stats_option()]
    generate = commands.add_parser("generate", parents=parents, help="answer one prompt")
    generate.add_argument("prompt", help="the question; - reads it from stdin")
    generate.add_argument(
        "--raw", action="store_true", help="no chat template: the model goes on with the text as it is"
    )
    generate.add_argument("--system", metavar="TEXT", help="a system message before the question")
    generate.add_argument(
        "--n", type=int, metavar="COUNT", help="give so many answers, at the end, each with a seed of its own"
    )
    generate.add_argument(
        "--logprobs", type=int, metavar="COUNT", help="print each token's logprob, and so many likeliest ones"
    )
    keep_to = generate.add_mutually_exclusive_group()
    keep_to.add_argument(
        "--json-schema",
        metavar="FILE",
        help="answer in JSON that keeps to the schema in the file; - reads it from stdin",
    )
    keep_to.add_argument("--regex", metavar="PATTERN", help="give an answer that the pattern matches")
    generate.add_argument(
        "--json",
        action="store_true",
        help="print the whole result as JSON, at the end; with --n a list of them",
    )
    generate.set_defaults(command=_generate)


def _generate(options: argparse.Namespace) -> None:
    if options.prompt == options.json_schema == "-":
        raise UsageError("--json-schema: stdin is the prompt already")
    text = sys.stdin.read() if options.prompt == "-" else options.prompt
    if options.raw and options.system:
        raise UsageError("--system needs the chat template, which --raw leaves out")
    turns: list[Message] = [*system_turn(options), {"role": "user", "content": text}]
    prompt = text if options.raw else None
    given: GenerateOptions = {
        **sampling_of(options),
        "messages": None if options.raw else turns,
        "response_format": _response_format(options),
    }
    with connect(options) as client:
        if options.n is not None:
            answers = client.generate(prompt, n=options.n, **given)
            if options.json:
                print(json.dumps([plain(answer) for answer in answers], ensure_ascii=False))
            else:
                print_answers(answers)
        else:
            stream = client.stream(prompt, **given)
            answers = [_answer(stream, options)]
    if options.stats:
        for answer in answers:
            print(describe(answer), file=sys.stderr)


def _response_format(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.regex is not None:
        return {"type": "regex", "pattern": options.regex}
    if options.json_schema is None:
        return None
    try:
        with (
            contextlib.nullcontext(sys.stdin)
            if options.json_schema == "-"
            else open(options.json_schema) as file
        ):
            return {"type": "json_schema", "schema": json.load(file)}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--json-schema {options.json_schema}: {error}") from error


def _answer(stream: TokenStream, options: argparse.Namespace) -> Generation:
    """Print one answer, as it comes if it is text."""
    if options.json:
        print(json.dumps(plain(stream.read()), ensure_ascii=False))
        return stream.generation
    print_stream(stream)
    if options.logprobs is not None:
        print_logprobs(stream.generation)
    return stream.generation
