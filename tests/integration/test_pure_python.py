"""Where msgpack has no compiled extension (PyPy, a platform without a wheel), its pure-Python form does all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.hosts import Host, on_one_transport

PURE = {**os.environ, "MSGPACK_PUREPYTHON": "1"}
ROOT = Path(__file__).parents[2]
TALK = """
import sys
import msgpack
from mlxbridge import Client

assert msgpack.Packer.__module__ == "msgpack.fallback"
with Client(sys.argv[1], token=sys.argv[2] or None, timeout=60) as client:
    with client.chat("What is 27 + 15?", stream=True, logprobs=1) as stream:
        print("".join(map(str, stream)))
    print(stream.generation.logprobs[0].chosen.token_id == stream.generation.token_ids[0])
    print([outcome.text for outcome in client.generate_many([[{"role": "user", "content": "What is 2 + 3?"}]])])
    print(client.detokenize(client.tokenize("Grüße", add_special_tokens=False)))
"""


@on_one_transport
def test_a_guest_talks_to_a_host(host: Host) -> None:
    command = [sys.executable, "-c", TALK, host.url, host.token or ""]
    done = subprocess.run(command, env=PURE, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["27 + 15 = 42.", "True", "['2 + 3 = 5.']", "Grüße"], done.stderr


def test_the_wire_is_the_same() -> None:
    words = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n0",
        "tests/protocol/test_codec.py",
        "tests/protocol/test_vectors.py",
    ]
    done = subprocess.run(
        [sys.executable, *words], env=PURE, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
