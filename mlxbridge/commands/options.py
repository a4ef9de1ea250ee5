"""What several commands take: where the host is, and how tokens are chosen."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, cast, get_args

from mlxbridge.errors import BridgeError
from mlxbridge.model_names import find_model
from mlxbridge.types import Options, Priority, Speculation

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client
    from mlxbridge.types import Message


def host_options(
    *, timeout: str = "for each call", json: str = "print the result, and errors, as JSON"
) -> argparse.ArgumentParser:
    """What all commands take: where the host is, for how long to wait, and whether to print JSON.

    Args:
        timeout: what there is so much time for.
        json: what that looks like.
    """
    host = argparse.ArgumentParser(add_help=False)
    host.add_argument(
        "--url",
        help="unix:///path, vsock://CID:PORT or tcp://host:port; else MLXBRIDGE_URL, else the usual places (ping -v names them)",
    )
    host.add_argument("--timeout", type=float, metavar="SECONDS", help=timeout)
    host.add_argument("--json", action="store_true", help=json)
    return host


def sampling_options() -> argparse.ArgumentParser:
    """How the answer is chosen: what ``sampling_of`` reads."""
    sampling = argparse.ArgumentParser(add_help=False)
    sampling.add_argument(
        "--model", help="its name at the host; not needed where the host serves one, or has a default"
    )
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


def stats_option() -> argparse.ArgumentParser:
    """``--stats``."""
    stats = argparse.ArgumentParser(add_help=False)
    stats.add_argument(
        "--stats",
        action="store_true",
        help="print tokens/s, time to first token and, where any were drafted, drafted tokens on stderr",
    )
    return stats


def sampling_of(options: argparse.Namespace) -> Options:
    """The options of the library that were given."""
    given = vars(options)
    return cast(Options, {name: given[name] for name in Options.__annotations__ if name in given})


def connect(options: argparse.Namespace) -> Client:
    """A client, which connects at its first call."""
    from mlxbridge.guest.blocking import Client

    return Client(options.url, timeout=options.timeout)


def show_loading(client: Client, model: str | None) -> None:
    """Load the model that is to be asked, where a terminal can show that: else nothing would be seen for seconds.

    Args:
        client: of the host.
        model: its name; None: the default one, if the host has one.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return
    # What is wrong with the model, or with asking for it, is told by the call itself.
    with suppress(BridgeError):
        meant = find_model(client.list_models(), model)
        if meant is not None and meant.state != "ready":
            client.load_model(meant.name, progress=True)


def system_turn(options: argparse.Namespace) -> list[Message]:
    """What begins a chat."""
    return [{"role": "system", "content": options.system}] if options.system else []
