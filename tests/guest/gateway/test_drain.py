"""How a gateway ends, as a process, with streams under way."""

from __future__ import annotations

import signal

import httpx

from tests.guest.gateway.endless import running, streaming, until
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.integration.hosts import HostProcess


def refuses(gateway: GatewayProcess) -> bool:
    try:
        httpx.get(f"{gateway.url}/healthz")
    except httpx.ConnectError:
        return True
    except httpx.TransportError:  # it was let in just before, and had not asked yet
        return False
    return False


def test_stream_goes_on_until_the_drain_timeout_and_is_told_its_end(endless_host: HostProcess) -> None:
    with (
        run_gateway(endless_host.url, "--drain-timeout", "3") as gateway,
        httpx.Client(base_url=gateway.url, timeout=60) as http,
        streaming(http) as lines,
    ):
        gateway.process.send_signal(signal.SIGTERM)
        assert "1 requests have 3 s left" in gateway.wait_for_line("draining")
        until(lambda: refuses(gateway))
        rest = [line for line in lines if line]
        assert len(rest) > 2  # it went on
        assert "the gateway is stopping" in rest[-1]
        assert gateway.process.wait(30) == 0
        assert "stopped" in gateway.read_log() and "Traceback" not in gateway.read_log()


def test_stream_that_ends_in_time_ends_well(endless_host: HostProcess) -> None:
    with (
        run_gateway(endless_host.url, "--drain-timeout", "60") as gateway,
        httpx.Client(base_url=gateway.url, timeout=60) as http,
        streaming(http, max_tokens=60) as lines,
    ):
        gateway.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert gateway.process.wait(30) == 0


def test_second_signal_ends_it_at_once_and_leaves_nothing_at_the_host(endless_host: HostProcess) -> None:
    with (
        run_gateway(endless_host.url, "--drain-timeout", "600") as gateway,
        httpx.Client(base_url=gateway.url, timeout=60) as http,
        streaming(http) as lines,
        endless_host.client(timeout=60) as watcher,
    ):
        gateway.process.send_signal(signal.SIGINT)
        gateway.wait_for_line("draining")
        gateway.process.send_signal(signal.SIGINT)
        assert "the gateway is stopping" in [line for line in lines if line][-1]
        assert gateway.process.wait(30) == 0
        until(lambda: not running(watcher))
