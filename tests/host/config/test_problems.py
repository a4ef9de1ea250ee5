"""What is said of a file that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.config.config import Config, read_config
from mlxbridge.host.config.overrides import Overrides

Problems = Callable[..., list[str]]
Read = Callable[..., Config]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("max_batch = 3", ":1: max_batch: there is no such key; there are allow_pull, "),
        ("lisen = []", ":1: lisen: there is no such key; did you mean listen?"),
        ("\n[default]\nmax_batch = 3", ":2: default: there is no such key; did you mean defaults?"),
        ("[defaults]\nmax_bach = 3", ":2: defaults.max_bach: there is no such key; did you mean max_batch?"),
        (
            "[models.demo]\nkeepalive = 3",
            ":2: models.demo.keepalive: there is no such key; did you mean keep_alive?",
        ),
        (
            "[gateway]\ncors_origins = ['app.example']",
            ":2: gateway.cors_origins: origin 'app.example': must be a scheme and a host",
        ),
        ("[defaults]\nmax_batch = '3'", ":2: defaults.max_batch: must be a whole number, not '3'"),
        ("[defaults]\nmax_batch = true", ":2: defaults.max_batch: must be a whole number, not true"),
        (
            "[defaults]\nmax_batch = 1025",
            ":2: defaults.max_batch: must be less than or equal to 1024, not 1025",
        ),
        (
            "[defaults]\nmax_waiting = -1",
            ":2: defaults.max_waiting: must be greater than or equal to 0, not -1",
        ),
        (
            "[defaults]\nkv_memory = 8",
            ":2: defaults.kv_memory: 8 has no unit; give a size such as 512MB or 8GB",
        ),
        ("[defaults]\nkv_memory = '0'", ":2: defaults.kv_memory: 0 leaves no room"),
        (
            f"[models.demo]\nmax_context = {10**20}",
            f":2: models.demo.max_context: must be less than or equal to {1 << 30}, not ",
        ),
        ("drain_timeout = 1e30", ":1: drain_timeout: must be less than or equal to 86400, not 1e+30"),
        ("token_file = '~no-such-user/x'", ":1: token_file: '~no-such-user/x' begins with no user's name"),
        (
            "[models.demo]\nsource = '~no-such-user/x'",
            ":2: models.demo.source: no model folder at ~no-such-user/x: there is no such user",
        ),
        (
            f"[models.demo]\nsource = '/{'x' * 300}'",
            f":2: models.demo.source: /{'x' * 300} cannot be read: File name too long",
        ),
        (
            f"[models.demo]\nadapters = {{ a = '/{'x' * 300}' }}",
            f":2: models.demo.adapters.a: there is no folder /{'x' * 300}",
        ),
        (
            f"[defaults]\nprefix_disk = '1GB'\nprefix_disk_folder = '/{'x' * 300}'",
            f":3: defaults.prefix_disk_folder: /{'x' * 300}: File name too long",
        ),
        (
            '[models.demo]\nchat_template = "a\\u0000b"',
            ":2: models.demo.chat_template: 'a\\x00b' has a NUL in it",
        ),
        ("[defaults]\nkeep_alive = 'soon'", ":2: defaults.keep_alive: 'soon' is no time; give seconds"),
        ("[defaults]\nkv_bits = 6", ":2: defaults.kv_bits: must be 8 or 4, not 6"),
        ("[models.demo]\nkv_bits = 6", ":2: models.demo.kv_bits: must be 8 or 4, not 6"),
        ("[defaults]\nkv_group_size = 64", ":2: defaults.kv_group_size: is for kv_bits, which is not given"),
        (
            "[defaults]\nkv_window = 9\n[models.demo]\nkv_bits = 8",
            ":4: models.demo.kv_bits: does not go with kv_window",
        ),
        (
            "[defaults]\nprefix_disk = '1GB'\nprefix_cache = 0",
            ":2: defaults.prefix_disk: needs prefix_cache: what comes",
        ),
        (
            "[defaults]\nprefix_disk_folder = 'x'",
            ":2: defaults.prefix_disk_folder: nothing is kept there without prefix_disk",
        ),
        ("defaults = 3", ":1: defaults: must be a table, not 3"),
        ("[models]\ndemo = 3", ":2: models.demo: must be a table, not 3"),
        ("models = 3", ":1: models: must be a table, not 3"),
        ("listen = 'unix:/x'", ":1: listen: must be a list, not 'unix:/x'"),
        ("listen = ['unix:/x', 3]", ":1: listen: must be a text, not 3"),
        ("listen = ['ftp:x']", ":1: listen: address 'ftp:x': unknown scheme 'ftp'"),
        ("listen = ['tcp:127.0.0.1:2048']", ":1: listen: tcp:127.0.0.1:2048: TCP needs a token"),
        ("token_file = 'nowhere'", ":1: token_file: cannot read nowhere: "),
        ("allow_pull = 1", ":1: allow_pull: must be a boolean, not 1"),
        ("drain_timeout = -1", ":1: drain_timeout: must be greater than or equal to 0, not -1"),
        ("drain_timeout = inf", ":1: drain_timeout: must be a finite number, not inf"),
        ("log_level = 'loud'", ":1: log_level: must be 'debug', 'info', 'warning' or 'error', not 'loud'"),
        ("[models.x]\nsource = './nowhere'", ":2: models.x.source: no model folder at nowhere"),
        ("[models.x]\nsource = 3", ":2: models.x.source: must be a text, not 3"),
        ("[models.x]\npin = true", ":1: models.x: it has no source, and its name is none: 'x' is no model"),
        ('[models."a+b"]\nsource="demo"', ":1: models.\"a+b\": 'a+b' has a + in it"),
        ("[models.demo]\naliases = ['demo']", ":2: models.demo.aliases: demo is the name of demo already"),
        (
            "[models.a]\nsource='demo'\naliases=['b']\n[models.b]\nsource='demo'",
            ":3: models.a.aliases: b is the name of b",
        ),
        ("[models.demo]\ndraft_model = './nowhere'", ":2: models.demo.draft_model: no model folder at"),
        ("[models.demo.adapters]\nx = 'nowhere'", ":2: models.demo.adapters.x: there is no folder nowhere"),
        ("[models.demo]\nchat_template = 'nowhere'", ":2: models.demo.chat_template: cannot read nowhere: "),
        (
            "[models.demo]\nmax_context = 0",
            ":2: models.demo.max_context: must be greater than or equal to 1, not 0",
        ),
        (
            "[models.demo.sampling]\ntemprature = 1",
            ":1: models.demo.sampling: generate has no parameter 'temprature'; did you mean 'temperature'?",
        ),
        ("[models.demo.sampling]\ntop_p = 2", ":1: models.demo.sampling: top_p "),
        ("[models.demo.sampling]\nprompt = 'x'", ":1: models.demo.sampling: prompt is for a call to say"),
        ("[models.demo]\nsampling = 3", ":2: models.demo.sampling: must be a table, not 3"),
    ],
)
def test_wrong_key_or_value_is_named_with_its_line_and_what_would_be_right(
    problems: Problems, text: str, line: str
) -> None:
    (said,) = problems(text)
    assert said.startswith(f"config.toml{line}")


def test_keys_that_a_model_of_vectors_has_no_use_for_are_refused(
    problems: Problems, read: Read, tmp_path: Path
) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini/config.json").write_text('{"model_type": "bert"}')
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / "mini" / name).touch()
    mini = '[models.mini]\nsource = "./mini"\n'
    for text in ("kv_bits = 8", "prefix_cache = 0", "max_context = 9", "sampling = {top_k = 1}"):
        name = text.partition(" ")[0]
        assert problems(mini + text) == [
            f"config.toml:3: models.mini.{name}: mini is an embedding model, which has no use for it"
        ]
    config = read(
        f"[defaults]\nkv_bits = 8\n{mini}max_waiting = 3"
    )  # what holds for all is for those that can
    assert config.models[0].limits.max_waiting == 3


def test_time_to_keep_a_model_that_is_pinned_is_refused(problems: Problems, read: Read) -> None:
    assert problems("[models.demo]\npin = true\nkeep_alive = 0") == [
        "config.toml:3: models.demo.keep_alive: a pinned model is never unloaded; leave out this or pin"
    ]
    assert read("[defaults]\nkeep_alive = 0\n[models.demo]\npin = true").models[0].pin


def test_all_that_is_wrong_is_told_at_once(problems: Problems) -> None:
    text = "lisen = []\nlog_level = 'loud'\n[models.demo]\npins = true\nmax_batch = 0"
    assert [said.split(": ")[1] for said in problems(text)] == [
        "log_level",
        "models.demo.max_batch",
        "models.demo.pins",
        "lisen",
    ]
    text = "token_file = 'nowhere'\n[models.x]\n[models.y]\n[models.demo]\nkv_bits = 5"
    assert [said.split(": ")[1] for said in problems(text)] == [
        "token_file",
        "models.x",
        "models.y",
        "models.demo.kv_bits",
    ]


def test_what_is_wrong_with_the_defaults_is_told_once_however_many_models_there_are(
    problems: Problems,
) -> None:
    assert len(problems("[defaults]\nkv_bits = 5\n[models.demo]\n[models.d]\nsource = 'demo'")) == 1


def test_what_an_option_gave_bears_its_name(problems: Problems) -> None:
    assert problems("[defaults]\nmax_batch = 3", max_batch="0") == [
        "--max-batch: must be greater than or equal to 1, not '0'"
    ]
    assert problems("[defaults]\nkv_window = 64", kv_bits="8") == [
        "--kv-bits: does not go with --kv-window: a window is not quantized"
    ]


def test_what_is_no_toml_is_refused_with_its_place(problems: Problems) -> None:
    (said,) = problems("a = 1\nb = \n")
    assert said.startswith("config.toml: this is no TOML: ")
    assert "line 2" in said


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read .*nowhere.toml"):
        read_config(tmp_path / "nowhere.toml", Overrides())
