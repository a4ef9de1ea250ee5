from __future__ import annotations

from pathlib import Path

import pytest

from mlxbridge.host.config.origins import Key, Origins, find_line
from mlxbridge.host.config.toml import write_key

TEXT = """\
log_level = "info"
[defaults]  # for all
max_batch = 8
kv_memory = '''
max_waiting = 3 no key
'''

[models."org/name"]
pin = true
[models.b.sampling]
temperature = 1
[models]
c.aliases = [
  "x = 3",
]
c."odd name".x = 1
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("log_level",), 1),
        (("defaults", "max_batch"), 3),
        (("defaults", "kv_memory"), 4),
        (("models", "org/name"), 8),
        (("models", "org/name", "pin"), 9),
        (("models", "b", "sampling"), 10),
        (("models", "b", "sampling", "temperature"), 11),
        (("models", "c", "aliases"), 13),
        (("models", "c", "odd name", "x"), 16),
        (("models", "org/name", "aliases"), 8),  # is not there: its table is
        (("drain_timeout",), None),
    ],
)
def test_line_of_a_key_is_found(key: Key, line: int | None) -> None:
    assert find_line(TEXT, key) == line


def test_key_is_quoted_where_it_must_be() -> None:
    assert write_key(("models", "org/name", "pin")) == 'models."org/name".pin'
    assert write_key(("models", "a-b_c", "pin")) == "models.a-b_c.pin"


def test_key_is_named_as_who_gave_it_knows_it() -> None:
    key = ("defaults", "max_batch")
    assert Origins().name(key) == "defaults.max_batch"
    assert Origins({}, Path("/x.toml"), TEXT).name(key) == "/x.toml:3: defaults.max_batch"
    assert Origins({}, Path("/x.toml"), "").name(key) == "/x.toml: defaults.max_batch"
    assert Origins({key: "--max-batch"}, Path("/x.toml"), TEXT).name(key) == "--max-batch"
    assert Origins({key: "--max-batch"}).place(key) == "--max-batch"
    assert Origins({}, Path("/x.toml"), TEXT).place(key) == "/x.toml:3"
