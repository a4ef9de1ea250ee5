"""``mlxbridge generate``: an answer to one prompt."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mlxbridge.answers import describe, plain, print_answers, print_json, print_logprobs, print_stream
from mlxbridge.commands.options import (
    connect,
    host_options,
    sampling_of,
    sampling_options,
    show_loading,
    stats_option,
    system_turn,
)
from mlxbridge.commands.texts import read_text
from mlxbridge.errors import UsageError
from mlxbridge.types import GenerateOptions

if TYPE_CHECKING:
    from mlxbridge.guest.streams import TokenStream
    from mlxbridge.types import Generation, Message


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    json = "print the whole result as JSON, at the end; with --n a list of them; errors too"
    parents = [host_options(json=json), sampling_options(), stats_option()]
    generate = commands.add_parser(
        "generate", parents=parents, help="answer one prompt", reads_stdin="the text on stdin"
    )
    generate.add_argument(
        "prompt",
        nargs="+",
        help="the question; - is the text on stdin, set off from the words around it by an empty line",
    )
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
    generate.set_defaults(command=_generate)


def _generate(options: argparse.Namespace) -> None:
    if options.prompt.count("-") + (options.json_schema == "-") > 1:
        raise UsageError("-: stdin can be read once")
    text = join_prompt(options.prompt)
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
        show_loading(client, options.model)
        if options.n is not None:
            answers = client.generate(prompt, n=options.n, **given)
            if options.json:
                print_json([plain(answer) for answer in answers])
            else:
                print_answers(answers)
        else:
            stream = client.stream(prompt, **given)
            answers = [_answer(stream, options)]
    if options.stats:
        for answer in answers:
            print(describe(answer), file=sys.stderr)


def join_prompt(words: list[str]) -> str:
    """The prompt that a command line's arguments make: words with spaces between them, ``-`` for the text on stdin.

    Raises:
        UsageError: stdin has no text.
    """
    if "-" not in words:
        return " ".join(words)
    place = words.index("-")
    parts = [" ".join(words[:place]), read_text("-"), " ".join(words[place + 1 :])]
    if not parts[1]:
        raise UsageError("-: there is nothing on stdin")
    if len(words) == 1:
        return parts[1]
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _response_format(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.regex is not None:
        return {"type": "regex", "pattern": options.regex}
    if options.json_schema is None:
        return None
    try:
        return {"type": "json_schema", "schema": json.loads(read_text(options.json_schema))}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--json-schema {options.json_schema}: {error}") from error


def _answer(stream: TokenStream, options: argparse.Namespace) -> Generation:
    """Print one answer, as it comes if it is text."""
    if options.json:
        print_json(plain(stream.read()))
        return stream.generation
    print_stream(stream)
    if options.logprobs is not None:
        print_logprobs(stream.generation)
    return stream.generation
