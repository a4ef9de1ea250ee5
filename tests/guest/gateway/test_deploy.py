"""The files that put the gateway into containers: they are read, and what they would run is run here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from bench.gateway.processes import free_port
from mlxbridge.cli import _parser
from mlxbridge.commands.gateway import _VARIABLES
from tests.integration.hosts import HostProcess

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "guest/gateway/deploy"
OF_GUESTS = {"MLXBRIDGE_URL", "MLXBRIDGE_TOKEN", "MLXBRIDGE_TOKEN_FILE"}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The Dockerfile's instructions."""
    copy = tmp_path_factory.mktemp("docker") / "Dockerfile"
    shutil.copy(DEPLOY / "Dockerfile", copy)  # the parser opens its file for writing
    parser = DockerfileParser(str(copy))
    return [step for step in parser.structure if step["instruction"] != "COMMENT"]


def values(steps: list[dict[str, Any]], instruction: str) -> list[str]:
    return [step["value"] for step in steps if step["instruction"] == instruction]


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def is_known(variable: str) -> bool:
    own = {f"MLXBRIDGE_GATEWAY_{name.upper()}" for name in _VARIABLES}
    return not variable.startswith("MLXBRIDGE_") or variable in own | OF_GUESTS


def test_image_runs_as_nobody_in_particular_and_is_told_to_stop(steps: list[dict[str, Any]]) -> None:
    names = [step["instruction"] for step in steps]
    assert values(steps, "FROM")[-1].endswith("-slim")
    (user,) = values(steps, "USER")
    assert int(user) > 0
    assert names.index("USER") > names.index("RUN", names.index("FROM", 1))
    assert values(steps, "STOPSIGNAL") == ["SIGTERM"]
    (entry,) = values(steps, "ENTRYPOINT")
    assert json.loads(entry) == ["mlxbridge", "gateway"]  # no shell, which would keep signals to itself


def test_image_is_built_of_what_it_copies_and_answers_its_health_check(
    steps: list[dict[str, Any]], host: HostProcess, tmp_path: Path
) -> None:
    source, installed = tmp_path / "src", tmp_path / "installed"
    source.mkdir()
    for value in values(steps, "COPY"):
        *names, target = value.split()
        if not value.startswith("--from"):
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / target, symlinks=True)
                else:
                    shutil.copy(ROOT / name, source / target)
    build = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--target", str(installed), str(source)], check=True, timeout=300)

    env = {**os.environ, "PYTHONPATH": str(installed), "MLXBRIDGE_URL": host.url}
    env |= {"MLXBRIDGE_GATEWAY_LISTEN": f"0.0.0.0:{free_port()}", "MLXBRIDGE_GATEWAY_ALLOW_ANYONE": "1"}
    (entry,), (health,) = values(steps, "ENTRYPOINT"), values(steps, "HEALTHCHECK")
    check = json.loads(health.partition("CMD ")[2])
    run = [sys.executable, "-m"]
    process = subprocess.Popen([*run, *json.loads(entry)], env=env, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([*run, *check], env=env, cwd=tmp_path, capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_compose_gives_apps_the_address_and_the_model() -> None:
    services = read("compose.yaml")["services"]
    gateway, app = services["mlxbridge-gateway"], services["app"]
    assert all(map(is_known, gateway["environment"]))
    assert not gateway.get("secrets")  # whose files have the mode that they have on the machine
    assert (DEPLOY / gateway["build"]["context"]).resolve() == ROOT
    assert (ROOT / gateway["build"]["dockerfile"]).is_file()
    kind, program, *arguments = gateway["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "mlxbridge")
    assert _parser().parse_args(arguments).ready
    address = urlsplit(app["environment"]["LLM_URL"])
    assert (address.hostname, address.port, address.path) == ("mlxbridge-gateway", 8000, "/v1")
    assert set(app["environment"]) == {"LLM_URL", "LLM_MODEL"}
    assert set(app["depends_on"]) <= set(services)


def test_compose_has_the_same_names_where_docker_runs_the_model() -> None:
    models = read("compose.models.yaml")
    (binding,) = models["services"]["app"]["models"].items()
    assert binding[0] in models["models"]
    assert binding[1] == {"endpoint_var": "LLM_URL", "model_var": "LLM_MODEL"}
