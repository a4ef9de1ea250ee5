"""``mlxbridge models`` and what else is done with a model: load, unload, show, pull, delete."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlxbridge.answers import harmless, print_json
from mlxbridge.commands.options import connect, host_options
from mlxbridge.errors import InvalidArgument, UsageError
from mlxbridge.facts import describe_facts, describe_size, summarize_facts

if TYPE_CHECKING:
    from mlxbridge.types import ModelInfo


def add_commands(commands: Any) -> None:
    """All of them, for what ``add_subparsers`` gave."""
    host = host_options()
    models = commands.add_parser("models", parents=[host], help="list the models of the host")
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
    show.set_defaults(command=_show)
    pull = commands.add_parser(
        "pull",
        parents=[host_options(json="print the progress, then the model, a JSON object a line; errors too")],
        help="have the host download a model, where it lets guests",
    )
    pull.add_argument("model", metavar="ORG/NAME", help="its Hugging Face id")
    pull.set_defaults(command=_pull)
    delete = commands.add_parser("delete", parents=[host], help="delete a model that was pulled")
    delete.add_argument("model")
    delete.add_argument("--force", action="store_true", help="though it is loaded")
    delete.set_defaults(command=_delete)


def _models(options: argparse.Namespace) -> None:
    with connect(options) as client:
        models = client.list_models()
    if options.json:
        print_json([asdict(model) for model in models])
        return
    width = max([len(model.name) for model in models], default=0)
    for model in models:
        facts = {"state": model.state, "source": model.source, **model.details}
        print(harmless(f"{model.name:<{width}}  {model.state:<10}  {summarize_facts(facts)}".rstrip()))


def _load(options: argparse.Namespace) -> None:
    with connect(options) as client:
        progress = None if options.json else True
        _tell(client.load_model(options.model, progress=progress, keep_alive=options.keep_alive), options)


def _unload(options: argparse.Namespace) -> None:
    with connect(options) as client:
        _tell(client.unload_model(options.model), options)


def _tell(model: ModelInfo, options: argparse.Namespace) -> None:
    if options.json:
        print_json(asdict(model))
    else:
        print(f"{model.name}: {model.state}")


def _show(options: argparse.Namespace) -> None:
    with connect(options) as client:
        model = client.show_model(options.model)
    facts = {"name": model.name, "state": model.state, "source": model.source, **model.details}
    if options.json:
        print_json(facts)
    else:
        print(harmless("\n".join(describe_facts(facts))))


def _pull(options: argparse.Namespace) -> None:
    with connect(options) as client:
        progress = print_json if options.json else True
        _tell(client.pull_model(options.model, progress=progress), options)


def _delete(options: argparse.Namespace) -> None:
    with connect(options) as client:
        try:
            freed = client.delete_model(options.model, force=options.force)
        except InvalidArgument as error:
            if error.details.get("field") != "force":
                raise
            raise UsageError(
                f"{options.model} is loaded; --force ends its calls, and unloads it first"
            ) from error
    if options.json:
        print_json({"model": options.model, "freed_bytes": freed})
    else:
        print(f"{options.model}: deleted; {describe_size(freed)} are free")
