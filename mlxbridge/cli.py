"""``mlxbridge``: the guest's command line."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast, get_args

from mlxbridge import __version__, vectors, watch
from mlxbridge.answers import describe, plain, print_answers, print_logprobs, print_stream
from mlxbridge.errors import BridgeError, InvalidArgument, UsageError
from mlxbridge.facts import describe_facts, describe_size, summarize_facts
from mlxbridge.progress import ProgressLine
from mlxbridge.types import GenerateOptions, Options, Priority, Speculation

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client
    from mlxbridge.guest.streams import TokenStream
    from mlxbridge.types import Generation, Message

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
_CHAT_HELP = "Ctrl-C stops an answer, /reset starts afresh, /exit or Ctrl-D ends the chat."


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 1 after an error, 130 after Ctrl-C."""
    if sys.stdout is None:  # started with `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
        sys.stdout.flush()
    except BridgeError as error:
        notes: list[str] = getattr(error, "__notes__", [])
        sys.exit(f"mlxbridge: {type(error).__name__}: {'; '.join([error.message, *notes])}")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `mlxbridge generate … | head`: whoever read has enough
        _discard_stdout()
        sys.exit(EXIT_ERROR)
    except OSError as error:  # a full disk, say; the link's errors are BridgeErrors
        _discard_stdout()
        is_of_file = isinstance(error.filename, str)
        sys.exit(f"mlxbridge: {error.filename}: {error.strerror}" if is_of_file else f"mlxbridge: {error}")


def _discard_stdout() -> None:
    """Keep the interpreter from writing once more, at its end, what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlxbridge", description="Use the models of an mlxbridge host.")
    parser.add_argument("--version", action="version", version=f"mlxbridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    host = _host_options(timeout="for each call")
    sampling = _sampling_options()
    stats = argparse.ArgumentParser(add_help=False)
    stats.add_argument(
        "--stats",
        action="store_true",
        help="print tokens/s, time to first token and, where any were drafted, drafted tokens on stderr",
    )

    generate = commands.add_parser("generate", parents=[host, sampling, stats], help="answer one prompt")
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

    batch = commands.add_parser(
        "batch",
        parents=[_host_options(timeout="for the whole file"), sampling],
        help="answer the prompts of a file, when the host has time",
    )
    batch.add_argument(
        "file",
        help='one JSON object a line: {"prompt": "…"} or {"messages": […]}, options, "custom_id"; - reads stdin',
    )
    batch.add_argument(
        "--logprobs", type=int, metavar="COUNT", help="give each token's logprob, and so many likeliest ones"
    )
    batch.set_defaults(command=_batch)

    chat = commands.add_parser("chat", parents=[host, sampling, stats], help="talk with a model")
    chat.add_argument("--system", metavar="TEXT", help="a system message at the start")
    chat.set_defaults(command=_chat)

    vectors.add_commands(commands, host)

    models = commands.add_parser("models", parents=[host], help="list the models of the host")
    models.add_argument("--json", action="store_true")
    models.set_defaults(command=_models)

    for name, command, text in (
        ("load", _load, "load a model"),
        ("unload", _unload, "give a model's memory back"),
    ):
        sub = commands.add_parser(name, parents=[host], help=text)
        sub.add_argument("model")
        if name == "load":
            sub.add_argument(
                "--keep-alive",
                metavar="TIME",
                help="how long it stays loaded after its last call, such as 30m",
            )
        sub.set_defaults(command=command)

    show = commands.add_parser("show", parents=[host], help="what is known of a model, loaded or not")
    show.add_argument("model")
    show.add_argument("--json", action="store_true")
    show.set_defaults(command=_show)
    pull = commands.add_parser(
        "pull", parents=[host], help="have the host download a model, where it lets guests"
    )
    pull.add_argument("model", metavar="ORG/NAME", help="its Hugging Face id")
    pull.set_defaults(command=_pull)
    delete = commands.add_parser("delete", parents=[host], help="delete a model that was pulled")
    delete.add_argument("model")
    delete.add_argument("--force", action="store_true", help="though it is loaded")
    delete.set_defaults(command=_delete)

    status = commands.add_parser("status", parents=[host], help="what the host is doing, as JSON")
    status.set_defaults(command=_status)

    watch.add_command(commands, _host_options(timeout="for all of it"))

    ping = commands.add_parser("ping", parents=[host], help="measure the way to the host and back")
    ping.add_argument("-c", "--count", type=int, default=5, help="how often (default: %(default)s)")
    ping.set_defaults(command=_ping)

    demo = commands.add_parser("demo", help="start a host with the demo model, ask it something, stop it")
    demo.add_argument("question", nargs="*", help="your own questions")
    demo.set_defaults(command=_demo)
    return parser


def _host_options(*, timeout: str) -> argparse.ArgumentParser:
    """Where the host is, and for how long to wait; ``timeout`` says for what."""
    host = argparse.ArgumentParser(add_help=False)
    host.add_argument(
        "--url",
        help="unix:///path, vsock://CID:PORT or tcp://host:port; else MLXBRIDGE_URL, else the usual sockets",
    )
    host.add_argument("--timeout", type=float, metavar="SECONDS", help=timeout)
    return host


def _sampling_options() -> argparse.ArgumentParser:
    sampling = argparse.ArgumentParser(add_help=False)
    sampling.add_argument("--model", help="its name at the host; not needed where the host serves one")
    sampling.add_argument("--max-tokens", type=int, help="end after so many; else what fits, at most 4096")
    sampling.add_argument("--min-tokens", type=int, help="do not end before so many")
    sampling.add_argument("--temperature", type=float, help="0 takes the likeliest token (default)")
    sampling.add_argument(
        "--top-p", type=float, help="draw from the likeliest tokens that have this share together; 1 is off"
    )
    sampling.add_argument("--top-k", type=int, help="draw from so many likeliest tokens; 0 is off")
    sampling.add_argument(
        "--min-p",
        type=float,
        help="draw from tokens at least this share as likely as the likeliest; 0 is off",
    )
    sampling.add_argument("--seed", type=int, help="the same seed gives the same answer; else random")
    for name in ("repetition", "presence", "frequency"):
        off = 1 if name == "repetition" else 0
        sampling.add_argument(
            f"--{name}-penalty",
            type=float,
            metavar="NUMBER",
            help=f"for tokens that came before; {off} is off",
        )
    sampling.add_argument(
        "--stop", action="append", metavar="TEXT", help="end at this text; may be given several times"
    )
    sampling.add_argument(
        "--speculation",
        choices=get_args(Speculation),
        help="draft tokens, by a smaller model or from what repeats, and check several at a time",
    )
    sampling.add_argument(
        "--keep-alive",
        metavar="TIME",
        help="how long the model stays loaded after its last call: seconds, 30m, 0 (not at all), -1 (for ever)",
    )
    sampling.add_argument(
        "--priority", choices=get_args(Priority), help="whose turn it is first when calls wait for the model"
    )
    return sampling


def _sampling(options: argparse.Namespace) -> Options:
    given = vars(options)
    return cast(Options, {name: given[name] for name in Options.__annotations__ if name in given})


def _client(options: argparse.Namespace) -> Client:
    from mlxbridge.guest.blocking import Client

    return Client(options.url, timeout=options.timeout)


def _generate(options: argparse.Namespace) -> None:
    if options.prompt == options.json_schema == "-":
        raise UsageError("--json-schema: stdin is the prompt already")
    text = sys.stdin.read() if options.prompt == "-" else options.prompt
    if options.raw and options.system:
        raise UsageError("--system needs the chat template, which --raw leaves out")
    turns: list[Message] = [*_system(options), {"role": "user", "content": text}]
    prompt = text if options.raw else None
    given: GenerateOptions = {
        **_sampling(options),
        "messages": None if options.raw else turns,
        "response_format": _response_format(options),
    }
    with _client(options) as client:
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


def _batch(options: argparse.Namespace) -> None:
    from mlxbridge.batch import run

    is_stdin = options.file == "-"
    path = sys.stdin.fileno() if is_stdin else options.file
    # What is no UTF-8 is the fault of its line alone.
    with (
        open(path, encoding="utf-8", errors="surrogateescape", closefd=not is_stdin) as file,
        _client(options) as client,
    ):
        is_answered = run(client, file, _sampling(options))
    if not is_answered:
        sys.exit(EXIT_ERROR)


def _chat(options: argparse.Namespace) -> None:

    messages = _system(options)
    print(_CHAT_HELP, file=sys.stderr)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (input() then has a history and can be edited)
    with _client(options) as client:
        while (line := _ask()) is not None:
            if not line.strip():
                continue
            if line.startswith("/"):
                if line.strip() == "/exit":
                    break
                if line.strip() == "/reset":
                    messages = _system(options)
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
    stream: TokenStream = client.chat(messages, stream=True, **_sampling(options))
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


def _system(options: argparse.Namespace) -> list[Message]:
    return [{"role": "system", "content": options.system}] if options.system else []


def _models(options: argparse.Namespace) -> None:
    with _client(options) as client:
        models = client.list_models()
    if options.json:
        print(json.dumps([asdict(model) for model in models], ensure_ascii=False))
        return
    width = max([len(model.name) for model in models], default=0)
    for model in models:
        facts = {"state": model.state, "source": model.source, **model.details}
        print(f"{model.name:<{width}}  {model.state:<10}  {summarize_facts(facts)}".rstrip())


def _load(options: argparse.Namespace) -> None:
    with _client(options) as client:
        print(f"{options.model}: {client.load_model(options.model, keep_alive=options.keep_alive).state}")


def _unload(options: argparse.Namespace) -> None:
    with _client(options) as client:
        print(f"{options.model}: {client.unload_model(options.model).state}")


def _show(options: argparse.Namespace) -> None:
    with _client(options) as client:
        model = client.show_model(options.model)
    facts = {"name": model.name, "state": model.state, "source": model.source, **model.details}
    print(json.dumps(facts, ensure_ascii=False) if options.json else "\n".join(describe_facts(facts)))


def _pull(options: argparse.Namespace) -> None:
    line = ProgressLine(options.model)
    with _client(options) as client:
        model = client.pull_model(
            options.model, progress=lambda item: line.show(item["bytes_done"], item["bytes_total"])
        )
    print(f"{model.name}: {model.state}")


def _delete(options: argparse.Namespace) -> None:
    with _client(options) as client:
        try:
            freed = client.delete_model(options.model, force=options.force)
        except InvalidArgument as error:
            if error.details.get("field") != "force":
                raise
            raise UsageError(
                f"{options.model} is loaded; --force ends its calls, and unloads it first"
            ) from error
    print(f"{options.model}: deleted; {describe_size(freed)} are free")


def _status(options: argparse.Namespace) -> None:
    with _client(options) as client:
        print(json.dumps(asdict(client.status()), indent=2, ensure_ascii=False))


def _ping(options: argparse.Namespace) -> None:
    if options.count < 1:
        raise UsageError("--count must be at least 1")
    with _client(options) as client:
        client.ping()  # connects
        print(f"connected to {client.address}")
        timeout = 5.0 if options.timeout is None else options.timeout
        times = sorted(client.ping(timeout=timeout) * 1e6 for _ in range(options.count))
    print(
        f"{options.count} round trips: median {times[len(times) // 2]:.0f} µs, best {times[0]:.0f} µs, worst {times[-1]:.0f} µs"
    )


def _demo(options: argparse.Namespace) -> None:
    from mlxbridge.demo import run

    run(options.question)
