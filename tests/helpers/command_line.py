"""``mlxbridge`` with arguments: in this process, which costs a hundredth of one, or in one of its own as a shell has it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from unittest.mock import patch

from mlxbridge.cli import main
from tests.integration.hosts import Host

NOWHERE = "unix:///nowhere/m.sock"


def run(host: Host | None, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """What a command says, and its exit status, as ``subprocess.run`` would tell them."""
    said, told = BytesIO(), BytesIO()
    with (
        tempfile.TemporaryFile(
            "w+", encoding="utf-8"
        ) as given,  # not in memory: commands look for a descriptor
        patch.object(sys, "stdin", given),
        patch.dict(os.environ, MLXBRIDGE_URL=host.url if host is not None else NOWHERE),
        redirect_stdout(TextIOWrapper(said, "utf-8", write_through=True)),
        redirect_stderr(TextIOWrapper(told, "utf-8", write_through=True)),
    ):
        given.write(stdin)
        given.seek(0)
        status = 0
        try:
            main(arguments)
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            status = ended.code
        texts = said.getvalue().decode(), told.getvalue().decode()
    return subprocess.CompletedProcess(arguments, status, *texts)


def run_process(host: Host | None, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mlxbridge", *arguments],
        env={**os.environ, "MLXBRIDGE_URL": host.url if host is not None else NOWHERE},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )
