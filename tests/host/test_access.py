"""Who may ask where."""

from __future__ import annotations

import pytest

from mlxbridge.addresses import parse_listen
from mlxbridge.errors import UsageError
from mlxbridge.host.access import check_metrics


@pytest.mark.parametrize(
    "text", ["tcp:127.0.0.1:9090", "tcp:127.9.9.9:1", "tcp:[::1]:9", "tcp:localhost:9", "unix:/x"]
)
def test_metrics_are_told_on_this_machine(text: str) -> None:
    check_metrics(parse_listen(text))


@pytest.mark.parametrize(
    "text", ["tcp:0.0.0.0:9090", "tcp:[::]:9", "tcp:192.168.0.7:9", "tcp:myhost:9", "vsock:9"]
)
def test_metrics_are_told_nowhere_else(text: str) -> None:
    with pytest.raises(UsageError, match=r"tcp:127\.0\.0\.1:PORT or unix:PATH"):
        check_metrics(parse_listen(text))
