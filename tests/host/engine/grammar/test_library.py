from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from mlxbridge.errors import InternalError, InvalidArgument, Unsupported
from mlxbridge.host.engine.grammar import library as library_module
from mlxbridge.host.engine.grammar.compiler import Compiler, Grammar
from mlxbridge.host.engine.grammar.library import Library
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.settings import GREEDY
from mlxbridge.host.engine.text.detokenize import Vocabulary

WAIT_S = 30


def regex(pattern: str) -> Source:
    return Source("regex", "response_format.pattern", pattern)


@pytest.fixture
def library(loaded: LoadedModel) -> Library:
    return Library(loaded, Vocabulary(loaded.tokenizer))


class SlowCompiler:
    """Stands in for a compiler that is not done before it is told."""

    def __init__(self) -> None:
        self.may_go_on = Event()
        self.has_begun = Event()
        self.num_compiled = 0

    def hold(self, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
        real = Compiler.compile

        def compile_slowly(compiler: Compiler, source: Source) -> Grammar:
            self.num_compiled += 1
            if source.text == pattern:
                self.has_begun.set()
                assert self.may_go_on.wait(WAIT_S)
            return real(compiler, source)

        monkeypatch.setattr(Compiler, "compile", compile_slowly)


def test_grammar_is_compiled_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCompiler()
    slow.hold(monkeypatch, "never")
    first = library.find(regex("a+"))
    assert isinstance(first.result(WAIT_S), Grammar)
    assert library.find(regex("a+")) is first
    assert library.find(regex("b+")).result(WAIT_S)
    assert slow.num_compiled == 2


def test_those_not_asked_for_lately_are_forgotten(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "MAX_KEPT", 3)
    kept = [library.find(regex("x" * size)) for size in range(1, 4)]
    assert library.find(regex("x")) is kept[0]
    library.find(regex("y"))
    assert library.find(regex("x")) is kept[0] and library.find(regex("xxx")) is kept[2]
    assert library.find(regex("xx")) is not kept[1]


def test_error_is_each_callers_own(library: Library) -> None:
    compilation = library.find(regex("("))
    with pytest.raises(InvalidArgument):
        compilation.result(WAIT_S)
    depths = []
    for _ in range(3):
        with pytest.raises(InvalidArgument) as caught:
            library.find(regex("(")).constrain(GREEDY)
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1, "what was raised before is not held on to"


def test_panic_is_an_internal_error(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    def panic(*_: Any) -> None:
        raise Panic("assertion failed")

    with monkeypatch.context() as patch:
        patch.setattr(Compiler, "compile", panic)
        with pytest.raises(InternalError, match="Panic: assertion failed"):
            library.find(regex("a")).result(WAIT_S)
    assert library.find(regex("b")).result(WAIT_S), "the thread lives on"


def test_compiler_that_cannot_be_made_is_an_internal_error(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Vocabulary, "spell", lambda *_: 1 / 0)
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            library.find(regex("a")).result(WAIT_S)
    assert library.find(regex("b")).result(WAIT_S)


def test_slow_grammar_does_not_hold_up_the_others(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCompiler()
    slow.hold(monkeypatch, "slow")
    held = library.find(regex("slow"))
    assert slow.has_begun.wait(WAIT_S)
    assert library.find(regex("quick")).result(WAIT_S)
    assert held.constrain(GREEDY) is None
    slow.may_go_on.set()
    held.result(WAIT_S)
    assert held.constrain(GREEDY) is not None


def test_grammar_that_takes_too_long_is_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCompiler()
    slow.hold(monkeypatch, "slow")
    held = library.find(regex("slow"))
    monkeypatch.setattr(
        library_module, "monotonic", lambda: held._requested_at + library_module.TIMEOUT_S + 1
    )
    with pytest.raises(Unsupported, match="not compiled after 10 seconds") as caught:
        held.constrain(GREEDY)
    assert caught.value.details["field"] == "response_format.pattern"
    slow.may_go_on.set()
    held.result(WAIT_S)
    assert held.constrain(GREEDY) is not None, "once it is there, it is"


def test_tokens_that_are_no_bytes_are_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library._vocabulary, "has_bytes", False)
    with pytest.raises(Unsupported) as caught:
        library.find(regex("a"))
    assert caught.value.details["field"] == "response_format"
