"""The grammars of one model: compiled beside the engine's loop, and the latest ones kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic

from mlxbridge.errors import BridgeError, InternalError
from mlxbridge.host.engine.grammar.compiler import Compiler, Grammar
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import unsupported
from mlxbridge.host.engine.settings import Settings
from mlxbridge.host.engine.text.answer_format import call_markers
from mlxbridge.host.engine.text.detokenize import Vocabulary

# Compiled, or refused; of a few KiB each, and a large one a few MiB.
MAX_KEPT = 64
# What llguidance does not bound by itself, such as patterns that must not overlap, can take it minutes; nothing stops it.
TIMEOUT_S = 10.0
# So that one such grammar does not keep others from being compiled.
_NUM_THREADS = 2


class Compilation(Future[Grammar]):
    """A grammar to come; its exception is the error with which calls are refused."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._requested_at = monotonic()

    def constrain(self, settings: Settings) -> Constraint | None:
        """What keeps one answer to the grammar; None while there is none.

        Raises:
            BridgeError: it cannot be compiled, or is not after so long.
        """
        if self.done():
            if (error := self.exception()) is not None:
                raise error.with_traceback(None)  # else each raise would add to what the last one left
            return self.result().constrain(
                settings.end_ids, min_tokens=settings.min_tokens, reasoning=settings.reasoning
            )
        if monotonic() > self._requested_at + TIMEOUT_S:
            raise unsupported(
                self._source.field, f"is too complex: it is not compiled after {TIMEOUT_S:g} seconds"
            )
        return None

    def compile(self, get_compiler: Callable[[], Compiler]) -> None:
        """Have it compiled, whatever comes of that; done in a thread of the library's."""
        try:
            self.set_result(get_compiler().compile(self._source))
        except BridgeError as error:
            self.set_exception(error)
        except BaseException as exc:  # a panic of llguidance's is no Exception
            self.set_exception(
                InternalError(f"compiling {self._source.field} failed: {type(exc).__name__}: {exc}")
            )


class Library:
    """Owns a model's compiled grammars. Its threads are few, have no part in the model, and end with the process."""

    def __init__(self, loaded: LoadedModel, vocabulary: Vocabulary) -> None:
        """Begin with none; nothing is done before the first is asked for."""
        self._loaded = loaded
        self._vocabulary = vocabulary
        self._kept: OrderedDict[Source, Compilation] = OrderedDict()
        self._wanted: SimpleQueue[Compilation] = SimpleQueue()
        self._compiler: Compiler | None = None
        self._making_compiler = Lock()
        self._has_threads = False

    def find(self, source: Source) -> Compilation:
        """The grammar of a source, which may still have to be compiled.

        Raises:
            Unsupported: this model's tokens do not stand for fixed bytes.
        """
        found = self._kept.get(source)
        if found is None:
            self._begin(source)
            found = self._kept[source] = Compilation(source)
            self._wanted.put(found)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(source)
        return found

    def _begin(self, source: Source) -> None:
        if self._has_threads:
            return
        if not self._vocabulary.has_bytes:
            raise unsupported(
                source.param,
                f"needs tokens that stand each for its own bytes; those of {self._loaded.name} do not",
            )
        # The tokenizer must not be asked from two threads.
        tokenizer = self._loaded.tokenizer
        names = Vocabulary(tokenizer, shows_special=True).names()
        for token in self._loaded.eos_ids:
            names.pop(token, None)
        # As text they are spelled with other tokens: a call's own are no text in its arguments.
        markers = call_markers(tokenizer)
        marks = {token for token, name in names.items() if name in markers} | self._vocabulary.special
        for _ in range(_NUM_THREADS):
            Thread(target=self._work, args=(names, marks), name="mlxbridge-grammars", daemon=True).start()
        self._has_threads = True

    def _work(self, names: Mapping[int, str], marks: Set[int]) -> None:
        while True:
            self._wanted.get().compile(lambda: self._get_compiler(names, marks))

    def _get_compiler(self, names: Mapping[int, str], marks: Set[int]) -> Compiler:
        with self._making_compiler:
            if self._compiler is None:
                spelling = self._vocabulary.spell(names, self._loaded.vocabulary_size)
                self._compiler = Compiler(spelling, marks)
            return self._compiler
