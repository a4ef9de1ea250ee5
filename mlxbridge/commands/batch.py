"""``mlxbridge batch``: prompts from a file, one JSON object a line, and how each of them ended, in the same form."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, cast

from mlxbridge.answers import plain_error, plain_outcome, print_json
from mlxbridge.commands.exits import Exit
from mlxbridge.commands.options import connect, host_options, sampling_of, sampling_options
from mlxbridge.errors import BridgeError, UsageError

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client
    from mlxbridge.types import Options, Request

SHOW_EVERY_S = 0.2


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    batch = commands.add_parser(
        "batch",
        parents=[
            host_options(timeout="for the whole file", json="tell errors as JSON, as the answers are anyway"),
            sampling_options(),
        ],
        help="answer the prompts of a file, when the host has time",
        reads_stdin="stdin",
    )
    batch.add_argument(
        "file",
        help='one JSON object a line: {"prompt": "…"} or {"messages": […]}, options, "custom_id"; - reads stdin',
    )
    batch.add_argument(
        "--logprobs", type=int, metavar="COUNT", help="give each token's logprob, and so many likeliest ones"
    )
    batch.set_defaults(command=_batch)


def _batch(options: argparse.Namespace) -> int:
    is_stdin = options.file == "-"
    if is_stdin and sys.stdin is None:
        raise UsageError("-: stdin is closed")
    path = sys.stdin.fileno() if is_stdin else options.file
    # What is no UTF-8 is the fault of its line alone.
    with (
        open(path, encoding="utf-8", errors="surrogateescape", closefd=not is_stdin) as file,
        connect(options) as client,
    ):
        is_answered = run(client, file, sampling_of(options))
    return Exit.OK if is_answered else Exit.FAILED


def run(client: Client, file: TextIO, options: Options) -> bool:
    """Print how each prompt of a file ended, as they do, and the progress on stderr.

    Returns:
        Whether none failed.

    Raises:
        BridgeError: what ended all of it; what has been printed is good, and a note says which lines have no answer.
    """
    progress = Progress(count_lines(file))

    def refuse(number: int, error: BridgeError) -> None:
        progress.add(is_failed=True)
        print_json({"line": number, "error": plain_error(error)})

    lines = Lines(file, refuse)
    try:
        with client.generate_many(lines, **options) as outcomes:
            try:
                for outcome in outcomes:
                    num_tokens = outcome.usage.completion_tokens if outcome.usage is not None else 0
                    progress.add(is_failed=outcome.error is not None, num_tokens=num_tokens)
                    print_json({**lines.origin_of(outcome.index), **plain_outcome(outcome)})
            except BridgeError as error:
                if numbers := lines.read_unanswered():
                    rest = "" if lines.is_at_end else ", nor has what follows"
                    error.add_note(describe_unanswered(numbers) + rest)
                raise
    finally:
        progress.end()
    return not progress.num_failed


def describe_unanswered(numbers: list[int]) -> str:
    """Such as "lines 3-5, 9 have no answer".

    Args:
        numbers: of lines, at least one, ascending.
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    shown = ", ".join("-".join(map(str, run)) for run in runs)
    return f"lines {shown} have no answer" if len(numbers) > 1 else f"line {shown} has no answer"


def count_lines(file: TextIO) -> int | None:
    """How many prompts a file has; None for a pipe, which is not read twice."""
    if not file.seekable():
        return None
    begin = file.tell()  # others may have read of stdin before
    count = sum(1 for line in file if line.strip())
    file.seek(begin)
    return count


class Lines:
    """The prompts of a file as ``generate_many`` takes them; knows where those come from that have no outcome yet.

    Args:
        file: one JSON object a line: a ``mlxbridge.Request``, and maybe a ``custom_id``. Empty lines are skipped.
        refuse: takes the number, from 1, of each line that is none, and why.

    Attributes:
        is_at_end: every line has been read.
    """

    def __init__(self, file: TextIO, refuse: Callable[[int, BridgeError], object]) -> None:
        self._file = file
        self._numbered = enumerate(file, 1)
        self._refuse = refuse
        self._origins: dict[int, dict[str, Any]] = {}
        self.is_at_end = False

    def __iter__(self) -> Iterator[Request]:
        index = 0
        for number, line in self._numbered:
            if not line.strip():
                continue
            try:
                request = parse_line(line)
            except UsageError as error:
                self._refuse(number, error)
                continue
            origin: dict[str, Any] = {"line": number}
            if "custom_id" in request:
                origin["custom_id"] = request.pop("custom_id")
            self._origins[index] = origin
            index += 1
            yield cast("Request", request)
        self.is_at_end = True

    def origin_of(self, index: int) -> dict[str, Any]:
        """The line of a prompt, and its ``custom_id`` if it has one; once."""
        return self._origins.pop(index)

    def read_unanswered(self) -> list[int]:
        """The numbers of the lines whose prompts' origin was not asked for, ascending; of a file, but not of a pipe, with
        those that had not been read. Nothing can be read after that.
        """
        numbers = [origin["line"] for origin in self._origins.values()]
        if self._file.seekable():
            numbers += [number for number, line in self._numbered if line.strip()]
            self.is_at_end = True
        return numbers


def parse_line(line: str) -> dict[str, Any]:
    """The object on a line.

    Raises:
        UsageError: there is none.
    """
    try:
        line.encode()  # bytes that are no UTF-8 were read as lone surrogates
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the line is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise UsageError('the line must be an object such as {"prompt": "…"} or {"messages": […]}')
    return value


class Progress:
    """Counts, and shows the count on stderr: now and then on a terminal, at the end anywhere."""

    def __init__(self, num_total: int | None) -> None:
        self._num_total = num_total
        self._num_done = 0
        self.num_failed = 0
        self._num_tokens = 0
        self._started_at = self._shown_at = monotonic()
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def add(self, *, is_failed: bool, num_tokens: int = 0) -> None:
        """One more prompt has ended."""
        self._num_done += 1
        self.num_failed += is_failed
        self._num_tokens += num_tokens
        if self._is_terminal and monotonic() - self._shown_at > SHOW_EVERY_S:
            self._shown_at = monotonic()
            print(f"\r{self}", end="\x1b[K", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Show the last count."""
        print(f"\r{self}\x1b[K" if self._is_terminal else self, file=sys.stderr)

    def __str__(self) -> str:
        seconds = monotonic() - self._started_at
        of = "" if self._num_total is None else f" of {self._num_total}"
        return (
            f"{self._num_done}{of} done, {self.num_failed} failed; {self._num_tokens} tokens in {seconds:.1f} s, "
            f"{self._num_tokens / seconds if seconds else 0:.0f} tokens/s"
        )
