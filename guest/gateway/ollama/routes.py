"""The paths of Ollama's API."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from starlette.routing import Route
from starlette.types import ASGIApp

from mlxbridge.guest.gateway.endpoint import Api, Handler, route
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.ollama.answers import (
    MESSAGE,
    NDJSON,
    RESPONSE,
    Clock,
    Ending,
    Form,
    Lines,
    empty,
    line,
    whole,
    write_problem,
)
from mlxbridge.guest.gateway.ollama.asking import prepare
from mlxbridge.guest.gateway.ollama.fields import Fields
from mlxbridge.guest.gateway.ollama.loading import find_model, load, load_or_unload
from mlxbridge.guest.gateway.ollama.models import hub_name, process, show, tags
from mlxbridge.guest.gateway.ollama.pulls import SUCCESS, pull_lines
from mlxbridge.guest.gateway.ollama.requests import (
    CHAT_NAMES,
    EMBED_NAMES,
    GENERATE_NAMES,
    Inputs,
    Question,
    read_chat,
    read_embed,
    read_embeddings,
    read_generate,
    read_model,
)
from mlxbridge.guest.gateway.problem import PATHS, Problem
from mlxbridge.guest.gateway.responses import Json, Streamed, Whole
from mlxbridge.guest.gateway.visible import visible_to
from mlxbridge.types import Embeddings, EmbedOptions

OLLAMA = Api("ollama", write_problem, paths={**PATHS, "generate": "/api/chat", "embed": "/api/embed"})
VERSION = "0.12.11"
"""Of Ollama, whose API this is: clients look whether it is new enough for them."""


async def generate(exchange: Exchange) -> ASGIApp:
    """``POST /api/generate``."""
    exchange.names = GENERATE_NAMES
    return await _answer(exchange, read_generate(await exchange.read_json()), RESPONSE)


async def chat(exchange: Exchange) -> ASGIApp:
    """``POST /api/chat``."""
    exchange.names = CHAT_NAMES
    return await _answer(exchange, read_chat(await exchange.read_json()), MESSAGE)


async def embed(exchange: Exchange) -> ASGIApp:
    """``POST /api/embed``."""
    clock = Clock()
    inputs = read_embed(await exchange.read_json())
    vectors = await _embed(exchange, inputs, clock)
    return Json(
        {
            "model": inputs.model,
            "embeddings": [] if vectors is None else vectors.tolist(),
            **clock.durations,
            "prompt_eval_count": 0 if vectors is None else vectors.usage.prompt_tokens,
        }
    )


async def embeddings(exchange: Exchange) -> ASGIApp:
    """``POST /api/embeddings``, which ``/api/embed`` has replaced."""
    vectors = await _embed(exchange, read_embeddings(await exchange.read_json()), Clock())
    return Json({"embedding": [] if vectors is None else vectors.tolist()[0]})


async def list_models(exchange: Exchange) -> ASGIApp:
    """``GET /api/tags``."""
    return Json({"models": [entry for info in await exchange.list_models() for entry in tags(info)]})


async def list_processes(exchange: Exchange) -> ASGIApp:
    """``GET /api/ps``."""
    status = await exchange.run(exchange.client.status())
    at = datetime.now(UTC)
    entries = [process(info, at) for info in visible_to(exchange.caller, status.models)]
    return Json({"models": [entry for entry in entries if entry is not None]})


async def show_model(exchange: Exchange) -> ASGIApp:
    """``POST /api/show``."""
    fields = Fields(await exchange.read_json())
    found = await find_model(exchange, read_model(fields))
    fields.take_flag("verbose")  # there is no more to tell
    fields.refuse(
        dict.fromkeys(("system", "template", "options"), "the host tells what the model's files say")
    )
    fields.finish()
    shown = await exchange.run(exchange.client.show_model(found.info.name))
    return Json(show(replace(shown, name=found.name)))


async def pull_model(exchange: Exchange) -> ASGIApp:
    """``POST /api/pull``."""
    exchange.check_manage("pull models")
    fields = Fields(await exchange.read_json())
    name = hub_name(read_model(fields))
    is_stream = fields.take_flag("stream") is not False
    fields.take_flag(
        "insecure"
    )  # which allows plain http, and demands nothing: the host asks the hub over https
    fields.refuse(dict.fromkeys(("username", "password"), "the host has its own account at the hub"))
    fields.finish()
    exchange.check_model(name)
    exchange.note_model(name)
    if is_stream:
        return Streamed(
            pull_lines(exchange.client, name),
            NDJSON,
            lambda problem: line(write_problem(problem, exchange.request_id)),
        )
    await exchange.run(exchange.client.pull_model(name))
    return Json(SUCCESS)


async def delete_model(exchange: Exchange) -> ASGIApp:
    """``DELETE /api/delete``."""
    exchange.check_manage("delete models")
    fields = Fields(await exchange.read_json())
    name, force = read_model(fields), fields.take_flag("force") or False
    fields.finish()
    found = await find_model(exchange, name)
    await exchange.run(exchange.client.delete_model(found.info.name, force=force))
    return Whole(b"", "application/json")


async def tell_version(exchange: Exchange) -> ASGIApp:
    """``GET /api/version``."""
    return Json({"version": VERSION})


async def _answer(exchange: Exchange, question: Question, form: Form) -> ASGIApp:
    clock = Clock()
    found = await find_model(exchange, question.model)
    exchange.check_options({**question.options, "model": found.name})
    if question.is_empty:
        reason = await load_or_unload(exchange, found, question.keep_alive)
        return Json(empty(form, question.model, reason))
    found = await load(exchange, found)
    clock.note_loaded()
    asked = await prepare(exchange, question, found)
    ending = Ending(clock, asked.context, asked.eos)
    if question.is_stream:
        return exchange.stream([asked.ask], Lines(form, question.model, ending))
    (answer,) = await exchange.generate(asked.ask)
    return Json(whole(form, question.model, answer, ending))


async def _embed(exchange: Exchange, inputs: Inputs, clock: Clock) -> Embeddings | None:
    """Vectors; None where there are no texts, and the model was loaded or unloaded."""
    exchange.names = EMBED_NAMES
    found = await find_model(exchange, inputs.model)
    exchange.check_options({**inputs.options, "model": found.name})
    if not inputs.texts:
        await load_or_unload(exchange, found, inputs.keep_alive)
        return None
    found = await load(exchange, found)
    clock.note_loaded()
    options: EmbedOptions = {**inputs.options, "model": found.name}
    vectors = await exchange.run(exchange.client.embed(inputs.texts, **options))
    exchange.note_input(vectors.usage.prompt_tokens)
    return vectors


def _without(why: str) -> Handler:
    async def refuse(exchange: Exchange) -> ASGIApp:
        raise Problem(501, f"{exchange.record.path}: {why}", code="unsupported")

    return refuse


_NO_FILES = "the host makes no models and takes no files; whoever runs it configures models, and /api/pull fetches them"
_create = _without(_NO_FILES)
_blobs = _without(_NO_FILES)
_copy = _without("the host's configuration gives models further names")
_push = _without("the host sends models nowhere")

routes: list[Route] = [
    route(OLLAMA, "/api/generate", POST=generate),
    route(OLLAMA, "/api/chat", POST=chat),
    route(OLLAMA, "/api/embed", POST=embed),
    route(OLLAMA, "/api/embeddings", POST=embeddings),
    route(OLLAMA, "/api/tags", GET=list_models),
    route(OLLAMA, "/api/ps", GET=list_processes),
    route(OLLAMA, "/api/show", POST=show_model),
    route(OLLAMA, "/api/pull", POST=pull_model),
    route(OLLAMA, "/api/delete", DELETE=delete_model),
    route(OLLAMA, "/api/version", GET=tell_version),
    route(OLLAMA, "/api/create", POST=_create),
    route(OLLAMA, "/api/blobs/{digest}", HEAD=_blobs, POST=_blobs),
    route(OLLAMA, "/api/copy", POST=_copy),
    route(OLLAMA, "/api/push", POST=_push),
]
