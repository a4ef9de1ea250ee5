from __future__ import annotations

from mlxbridge.host.engine.suspicion import CALM_STEPS, Suspicion


def test_first_failure_makes_suspects_and_keeps_the_limit() -> None:
    suspicion: Suspicion[str] = Suspicion(64)
    suspicion.failed("abc", num_running=10, is_memory=False)
    assert suspicion.limit == 64
    assert all(call in suspicion for call in "abc") and "d" not in suspicion
    suspicion.acquit("a")
    assert "a" not in suspicion


def test_failure_again_without_anyone_to_blame_halves_what_runs() -> None:
    suspicion: Suspicion[str] = Suspicion(64)
    for limit in (64, 5, 2, 1, 1):
        suspicion.failed("abc", num_running=10, is_memory=False)
        for call in "abc":
            suspicion.acquit(call)
        assert suspicion.limit == limit


def test_blame_clears_the_others() -> None:
    suspicion: Suspicion[str] = Suspicion(64)
    suspicion.failed("abc", num_running=3, is_memory=False)
    suspicion.failed("abc", num_running=3, is_memory=False)
    assert suspicion.limit == 1
    suspicion.blame("b")
    assert suspicion.limit == 64 and "b" not in suspicion and "a" in suspicion
    suspicion.failed("ac", num_running=2, is_memory=False)
    assert suspicion.limit == 64


def test_lack_of_memory_makes_nobody_a_suspect() -> None:
    suspicion: Suspicion[str] = Suspicion(64)
    suspicion.failed("abc", num_running=40, is_memory=True)
    assert suspicion.limit == 20 and "a" not in suspicion


def test_calm_lets_more_run_again() -> None:
    suspicion: Suspicion[str] = Suspicion(10)
    suspicion.failed("abc", num_running=3, is_memory=True)
    for limit in (2, 4, 8, 10, 10):
        for _ in range(CALM_STEPS):
            suspicion.step()
        assert suspicion.limit == limit
