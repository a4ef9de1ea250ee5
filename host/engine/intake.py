"""Requests to calls: what is looked at, and found, before one may wait for its turn."""

from __future__ import annotations

from math import inf

from mlxbridge.host.engine.adapters import Adapters
from mlxbridge.host.engine.admission import Admission
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.checks import check_request
from mlxbridge.host.engine.drafts.speculation import Speculator
from mlxbridge.host.engine.grammar.held_calls import source_of
from mlxbridge.host.engine.grammar.library import Compilation, Library
from mlxbridge.host.engine.interface import GenerateRequest, Origin
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.queue import PRIORITIES
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.settings import eos_ids, settings_of
from mlxbridge.host.engine.text.detokenize import Vocabulary
from mlxbridge.host.engine.text.prompt import encode_prompt, token_limit
from mlxbridge.host.engine.text.stops import StopMatcher
from mlxbridge.host.engine.text.told_answer import ToldAnswers


class Intake:
    """What calls of a model need of its texts: how tokens read, what templates say, the grammars that answers are held to.

    Args:
        loaded: the model.
        adapters: that calls may be for.
        admission: how long answers may be.
        speculator: how they may be drafted.
    """

    def __init__(
        self, loaded: LoadedModel, adapters: Adapters, admission: Admission, speculator: Speculator
    ) -> None:
        self._loaded = loaded
        self._adapters = adapters
        self._admission = admission
        self._speculator = speculator
        self._vocabulary = Vocabulary(loaded.tokenizer)
        self._told_answers = ToldAnswers(loaded)
        self._library = Library(loaded, self._vocabulary)

    def check(self, request: GenerateRequest, origin: Origin) -> None:
        """What does not take reading the prompt; loads the adapter.

        Raises:
            InvalidArgument, Unsupported: a field is wrong; ``details["field"]`` names it.
            ModelLoadFailed: the adapter that the call is for cannot be loaded.
        """
        check_request(request)
        if origin.adapter is not None:
            self._adapters.load(origin.adapter)

    def make_call(
        self, number: int, request: GenerateRequest, origin: Origin
    ) -> tuple[Call, Compilation | None]:
        """The call of a request that was checked, and what its answer is held to.

        If that is not compiled yet, the call's job has no constraint, and cannot run before it has one.

        Raises:
            InvalidArgument, Unsupported: a field is wrong; ``details["field"]`` names it.
            ContextTooLong: prompt and ``max_tokens`` do not fit the context, or the memory; the details give the numbers.
        """
        told = self._told_answers.begin(request)
        prompt = encode_prompt(self._loaded, request)
        most = token_limit(self._loaded, len(prompt), request.max_tokens)
        max_tokens = self._admission.token_limit(self._loaded.name, len(prompt), request.max_tokens, most)
        reasoning = None if told is None else told.reasoning
        settings = settings_of(request, self._loaded, max_tokens=max_tokens, reasoning=reasoning)
        source = source_of(self._loaded, request)
        grammar = None if source is None else self._library.find(source)
        job = Job(
            prompt=prompt,
            max_tokens=max_tokens,
            settings=settings,
            scope=self._adapters.scope(origin.adapter, origin.cache_scope),
            adapter=origin.adapter,
            rank=PRIORITIES.index(request.priority),
            closes_at=None if told is None else told.closes_at,
            drafts=self._speculator.settings_of(request),
        )
        call = Call(
            number,
            job=job,
            eos_ids=eos_ids(request, self._loaded),
            stop_token_ids=frozenset(request.stop_token_ids),
            vocabulary=self._vocabulary,
            stops=StopMatcher(request.stop),
            told=told,
            deadline_at=inf if origin.deadline_at is None else origin.deadline_at,
            is_literal=source is not None and not source.behind,
        )
        if grammar is not None:
            job.constraint = grammar.constrain(settings)
        return call, grammar
