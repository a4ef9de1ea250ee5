"""``python -m bench``: what mlxbridge costs, measured beside what else there is."""

from __future__ import annotations

import argparse

from bench import guest, prefixes
from bench.embed import command as embed
from bench.engine import command as engine
from bench.gateway import command as gateway
from bench.native import command as native
from bench.soak import command as soak
from bench.wire import command as wire

COMMANDS = {
    "wire": (wire, "the wire alone, beside JSON over gRPC, SSE and bare sockets"),
    "engine": (engine, "the engine alone, beside mlx_lm's generate_step and BatchGenerator"),
    "native": (native, "tokens through the bridge, beside mlx_lm in-process"),
    "embed": (embed, "vectors through the bridge, beside the same model in-process, JSON over gRPC and HTTP"),
    "gateway": (gateway, "answers over HTTP, beside mlx_lm.server; and what HTTP itself costs"),
    "prefixes": (
        prefixes,
        "the first token of a long prompt: read, found on disk after a restart, in memory",
    ),
    "guest": (guest, "what the guest library weighs: its import, and its wheel"),
    "soak": (soak, "no measurement: thousands of random requests, each compared with its run alone"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
