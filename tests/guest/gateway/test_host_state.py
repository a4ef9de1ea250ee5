"""The log tells when the host goes and comes back, not each request that finds it away."""

from __future__ import annotations

import logging

import pytest

from mlxbridge.guest.gateway.host_state import HostState


def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    state = HostState()
    state.note_there()
    for number in range(3):
        state.note_away(f"no host found:\n  a place: reason {number}", f"req-{number}")
    state.note_there()
    state.note_there()
    state.note_away("the token is wrong", "req-4")
    state.note_away("no host found:", "req-5")
    assert caplog.messages == [
        "the host cannot be asked: no host found:\n  a place: reason 0 (req-0)",
        "the host can be asked again",
        "the host cannot be asked: the token is wrong (req-4)",
        "the host cannot be asked: no host found: (req-5)",
    ]
