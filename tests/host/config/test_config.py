"""What a configuration that is right comes to."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.config.config import Config
from mlxbridge.host.config.effective import describe_effective
from mlxbridge.host.config.overrides import Overrides, pair_drafts
from mlxbridge.host.config.places import config_file, prefix_folder
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.settings import DEFAULT_KEEP_ALIVE_S
from mlxbridge.host.models.store import classify
from tests.host.config.conftest import flags

Read = Callable[..., Config]
Problems = Callable[..., list[str]]


def test_nothing_configured_is_the_demo_on_the_usual_socket(read: Read) -> None:
    config = read()
    assert str(config.listens[0]).endswith("/.mlxbridge/run/mlxbridge.sock")
    (demo,) = config.models
    assert (demo.name, demo.preload, demo.limits) == ("demo", True, EngineLimits())
    assert demo.keep_alive_s == config.keep_alive_s == DEFAULT_KEEP_ALIVE_S
    assert (config.tokens, config.memory_bytes) == (None, None)
    assert (config.allow_pull, config.drain_timeout_s, config.log_level) == (False, 30.0, logging.INFO)


def test_every_key_of_the_host_arrives(read: Read, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("alice:secret-of-alice\n")
    (tmp_path / "tokens").chmod(0o600)
    config = read(
        """
        listen = ["unix:/tmp/x.sock?mode=0666", "tcp:127.0.0.1:2048"]
        token_file = "tokens"
        memory = "48GB"
        allow_pull = true
        drain_timeout = 5
        log_level = "debug"
        [defaults]
        keep_alive = -1
        max_batch = 7
        max_waiting = 9
        kv_memory = "1GB"
        prefix_cache = 0
        kv_bits = 4
        kv_group_size = 32
        """
    )
    assert [str(listen) for listen in config.listens] == ["unix:/tmp/x.sock?mode=0666", "tcp:127.0.0.1:2048"]
    assert config.tokens == {"alice": b"secret-of-alice"}
    assert (config.memory_bytes, config.allow_pull) == (48 << 30, True)
    assert (config.drain_timeout_s, config.log_level, config.keep_alive_s) == (5, logging.DEBUG, None)
    assert config.limits == EngineLimits(
        max_batch=7, max_waiting=9, kv_bytes=1 << 30, prefix_cache_bytes=0, kv_bits=4, kv_group_size=32
    )
    assert config.models[0].limits == config.limits


def test_every_key_of_a_model_arrives(read: Read, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    (tmp_path / "pirate").mkdir()
    (tmp_path / "pirate/adapters.safetensors").touch()
    (chat, hub) = read(
        """
        [models.chat]
        source = "demo"
        aliases = ["gpt-4o-mini", "default"]
        draft_model = "org/small"
        adapters = { pirate = "pirate" }
        preload = true
        keep_alive = "10m"
        max_context = 4096
        chat_template = "chat.jinja"
        sampling = { temperature = 0.7, stop = ["###"] }
        kv_window = 4096
        kv_sinks = 8
        [models."org/name"]
        pin = true
        """
    ).models
    assert (chat.name, chat.source.kind, chat.aliases) == ("chat", "demo", ("gpt-4o-mini", "default"))
    assert chat.draft is not None
    assert chat.draft.name == "org/small"
    assert chat.adapters == {"pirate": str(tmp_path / "pirate")}
    assert (chat.preload, chat.pin, chat.keep_alive_s, chat.max_context) == (True, False, 600.0, 4096)
    assert chat.chat_template == "{{ messages }}"
    assert chat.sampling == {"temperature": 0.7, "stop": ["###"]}
    assert chat.limits == EngineLimits(kv_window=4096, kv_sinks=8)
    assert (hub.name, hub.source.kind, hub.preload, hub.pin) == ("org/name", "hub", False, True)


TWO = '[models.a]\nsource = "demo"\naliases = ["x"]\n[models.b]\nsource = "demo"\n'


def test_default_model_is_the_one_that_is_named_or_the_only_one(read: Read) -> None:
    assert read().default_model == "demo"
    assert read(TWO).default_model is None
    assert read(f'default_model = "x"\n{TWO}').default_model == "a"
    assert read(TWO, default_model="b").default_model == "b"
    assert read(TWO, model=["b"]).default_model == "b"


def test_default_model_that_is_not_served_is_refused(problems: Problems) -> None:
    said = problems(f'default_model = "bb"\n{TWO}')
    assert said == ["config.toml:1: default_model: no model that is served is named bb; did you mean b?"]
    said = problems(f'default_model = "a"\n{TWO}', model=["b"])
    assert said == ["config.toml:1: default_model: no model that is served is named a; there are b"]


def test_observers_are_tokens(read: Read, problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("alice:secret-of-alice\nmonitor:secret-of-monitor\n")
    (tmp_path / "tokens").chmod(0o600)
    assert read('token_file = "tokens"\nobservers = ["monitor"]').observers == {"monitor"}
    assert problems('token_file = "tokens"\nobservers = ["monitr"]') == [
        "config.toml:2: observers: tokens has no token named monitr; did you mean monitor?"
    ]
    assert problems(observers=["monitor"]) == ["--observers: without --token-file everybody is told of all"]


def test_model_s_own_table_wins_over_the_defaults(read: Read) -> None:
    text = """
        [defaults]
        max_batch = 7
        max_waiting = 9
        keep_alive = 60
        [models.a]
        source = "demo"
        max_batch = 3
        [models.b]
        source = "demo"
        keep_alive = -1
        """
    a, b = read(text).models
    assert (a.limits.max_batch, a.limits.max_waiting, a.keep_alive_s) == (3, 9, 60.0)
    assert (b.limits.max_batch, b.limits.max_waiting, b.keep_alive_s) == (7, 9, None)


def test_option_wins_over_the_file_key_by_key(read: Read) -> None:
    text = "drain_timeout = 5\nallow_pull = true\n[defaults]\nmax_batch = 7\nmax_waiting = 9"
    config = read(text, max_batch="8", allow_pull=False, memory="1GB", keep_alive="1h")
    assert (config.limits.max_batch, config.limits.max_waiting) == (8, 9)
    assert (config.drain_timeout_s, config.allow_pull, config.memory_bytes) == (5, False, 1 << 30)
    assert config.keep_alive_s == 3600.0
    listens = read('listen = ["unix:/a", "unix:/b"]', listen=["unix:/c"]).listens
    assert [str(listen) for listen in listens] == ["unix:/c"]


def test_models_of_the_command_line_are_served_instead_of_the_file_s(read: Read, tmp_path: Path) -> None:
    text = "[models.chat]\nsource = 'demo'\nmax_batch = 3\n[models.lazy]\nsource = 'demo'\npreload = false"
    assert [(model.name, model.preload) for model in read(text).models] == [("chat", False), ("lazy", False)]
    chat, lazy, hub = read(text, model=["chat", "lazy", "org/name"]).models
    assert (chat.name, chat.preload, chat.limits.max_batch) == ("chat", True, 3)
    assert (lazy.name, lazy.preload) == ("lazy", False)
    assert (hub.name, hub.preload) == ("org/name", True)


def test_model_of_the_command_line_may_be_an_alias_and_a_wrong_one_is_told_which_there_are(
    read: Read, problems: Problems
) -> None:
    text = (
        "[models.tiny]\nsource = 'demo'\nmax_batch = 3\naliases = ['small']\n[models.other]\nsource = 'demo'"
    )
    (tiny,) = read(text, model=["small"], draft_model=["small=demo"]).models
    assert (tiny.name, tiny.limits.max_batch, tiny.preload) == ("tiny", 3, True)
    assert tiny.draft is not None
    (said,) = problems(text, model=["tinny"])
    assert said.startswith("--model: 'tinny' is no model")
    assert said.endswith("; configured are other, small, tiny; did you mean tiny?")
    assert problems(text, model=["qqq"])[0].endswith("; configured are other, small, tiny")
    assert "configured" not in problems(model=["tinny"])[0]


def test_broken_template_and_folder_without_an_adapter_are_refused(
    problems: Problems, tmp_path: Path
) -> None:
    (tmp_path / "broken.jinja").write_text("{{ messages }}\n{% for x in %}")
    (tmp_path / "empty").mkdir()
    template, adapter = problems(
        "[models.demo]\nchat_template = 'broken.jinja'\nadapters = { sql = 'empty' }"
    )
    assert template.startswith(
        "config.toml:2: models.demo.chat_template: broken.jinja is no template: line 2: "
    )
    assert adapter == "config.toml:3: models.demo.adapters.sql: empty has no adapters.safetensors"


def test_all_wrong_params_of_sampling_are_told(problems: Problems) -> None:
    (said,) = problems("[models.demo]\nsampling = { top_p = 3, temprature = 1, top_k = 'x', min_p = 0.1 }")
    for part in ("did you mean 'temperature'?", "top_p must be above 0", "top_k must be"):
        assert part in said
    assert "min_p" not in said


def test_effective_configuration_has_the_models_that_would_be_served(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        "[models.a]\nsource = 'demo'\ndraft_model = 'org/x'\n[models.demo]\n[models.c]\npin = true\n"
    )

    def shown(**options: Any) -> list[str]:
        return [line for line in describe_effective(file, flags(**options)) if line.startswith("models")]

    assert shown() == [
        f'models.a.source = "demo"  # {file}:2',
        f'models.a.draft_model = "org/x"  # {file}:3',
        f"models.demo = {{}}  # {file}:4",
        f"models.c.pin = true  # {file}:6",
    ]
    assert shown(model=["a", "org/name"], draft_model=["a=org/y"]) == [
        f'models.a.source = "demo"  # {file}:2',
        "models.a.preload = true  # --model",
        'models.a.draft_model = "org/y"  # --draft-model',
        'models."org/name".source = "org/name"  # --model',
        'models."org/name".preload = true  # --model',
    ]
    assert shown(model=["demo"]) == ["models.demo.preload = true  # --model"]
    with pytest.raises(UsageError, match="did you mean demo"):
        shown(model=["demmo"])
    file.write_text("")
    lines = list(describe_effective(file, Overrides()))
    assert lines[-2:] == ['models.demo.source = "demo"', "models.demo.preload = true"]


def test_draft_model_of_the_command_line_is_for_a_model_of_the_file_too(read: Read) -> None:
    text = "[models.chat]\nsource = 'demo'\n[models.other]\nsource = 'demo'"
    chat, other = read(text, draft_model=["chat=demo"]).models
    assert chat.draft is not None
    assert other.draft is None
    (demo,) = read("", draft_model=["org/small"]).models
    assert demo.draft is not None
    assert demo.draft.name == "org/small"


def test_paths_in_the_file_begin_at_its_folder_and_those_of_options_at_the_current_one(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    monkeypatch.chdir(elsewhere)
    text = "[defaults]\nprefix_disk = '1GB'\nprefix_disk_folder = 'kept'"
    assert read(text).limits.prefix_disk_folder == str(tmp_path / "kept")
    limits = read(text, prefix_disk_folder="kept").limits
    assert limits.prefix_disk_folder == str(elsewhere / "kept")
    assert list(elsewhere.iterdir()) == []


def test_source_in_the_file_is_a_folder_beside_it_whatever_the_working_directory_is(
    read: Read, problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = classify("demo").folder
    assert demo is not None
    elsewhere = tmp_path / "elsewhere"
    for place in (tmp_path / "org/name", elsewhere / "org/name", elsewhere / "org/other", elsewhere / "far"):
        shutil.copytree(demo, place)
    (tmp_path / "reranker").symlink_to(tmp_path / "org/name")
    monkeypatch.chdir(elsewhere)
    text = "[models.a]\nsource = 'reranker'\ndraft_model = 'org/name'\n[models.'org/name']\n"
    for model in read(text).models:
        assert model.source.folder == tmp_path / "org/name"
    assert read(text).models[0].draft == read(text).models[1].source
    (other,) = read("[models.'org/other']").models
    assert (other.source.kind, other.source.folder) == ("hub", None)
    assert "'far' is no model" in problems("[models.a]\nsource = 'far'")[0]
    assert "'far' is no model" in problems("[models.far]")[0]
    (given,) = read("", model=["far"]).models
    assert given.source.folder == elsewhere / "far"


def test_socket_path_in_the_file_begins_at_its_folder(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home")
    config = read("listen = ['unix:run/a?mode=0666', 'unix:~/b', 'unix:/c']\nmetrics = 'unix:m'")
    assert [str(listen) for listen in config.listens] == [
        f"unix:{tmp_path}/run/a?mode=0666",
        "unix:/home/b",
        "unix:/c",
    ]
    assert str(config.metrics) == f"unix:{tmp_path}/m"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ["/no/such/folder"]}, "--model: no model folder at /no/such/folder"),
        ({"model": ["a b"]}, "--model: 'a b' is no model"),
        ({"draft_model": ["/no/such/folder"]}, "--draft-model: no model folder"),
        ({"draft_model": ["x=demo", "demo"]}, "--draft-model: demo has two, x=demo and demo"),
        (
            {"model": ["demo", "org/name"], "draft_model": ["demo"]},
            "--draft-model: demo does not begin with one",
        ),
        ({"listen": ["tcp:127.0.0.1:0"]}, "--listen: tcp:127.0.0.1:0: TCP needs a token"),
        ({"prefix_disk": "1GB", "prefix_disk_folder": "/"}, "--prefix-disk-folder: /: "),
        (
            {"prefix_disk": "1GB", "prefix_disk_folder": __file__},
            f"--prefix-disk-folder: {__file__}: it is no folder",
        ),
        (
            {"prefix_disk": "0", "prefix_disk_folder": "x"},
            "--prefix-disk-folder: nothing is kept there without --prefix-disk",
        ),
    ],
)
def test_bad_option_is_refused_by_its_name(problems: Problems, options: dict[str, Any], message: str) -> None:
    (said,) = problems(**options)
    assert said.startswith(message)


def test_folder_that_others_may_enter_is_refused_before_anything_is_in_it(
    problems: Problems, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    (said,) = problems("[defaults]\nprefix_disk = '1GB'\nprefix_disk_folder = '.'")
    assert "one of your own" in said


def test_draft_model_is_for_the_only_model_or_the_one_it_names() -> None:
    assert pair_drafts(["demo"], []) == {}
    assert pair_drafts(["org/big"], ["org/small"]) == {"org/big": "org/small"}
    assert pair_drafts(["a", "b"], ["b=c", "a=d"]) == {"a": "d", "b": "c"}
    assert pair_drafts(["a"], ["/models/x=y"]) == {"a": "/models/x=y"}
    assert pair_drafts(["demo"], ["demo"]) == {"demo": "demo"}


@pytest.mark.parametrize(
    ("models", "drafts", "message"),
    [
        (["a", "b"], ["c"], "say for which"),
        (["a", "b"], ["c=d"], "one of a, b and ="),
        (["a"], ["c", "a=d"], "a has two, c and d"),
    ],
)
def test_draft_model_without_a_model_of_its_own_is_refused(
    models: list[str], drafts: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pair_drafts(models, drafts)


def test_prefixes_are_on_disk_only_if_asked_for_and_by_default_in_the_user_s_cache(
    read: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    limits = read().limits
    assert (limits.prefix_disk_bytes, limits.prefix_disk_folder) == (0, None)
    limits = read(prefix_disk="20GB").limits
    assert (limits.prefix_disk_bytes, limits.prefix_disk_folder) == (20 << 30, str(prefix_folder()))


def test_usual_places_are_the_system_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for platform, config, caches in (
        ("linux", ".config", ".cache"),
        ("darwin", "Library/Application Support", "Library/Caches"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert config_file() == tmp_path / config / "mlxbridge" / "config.toml"
        assert prefix_folder() == tmp_path / caches / "mlxbridge" / "prefixes"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert config_file() == tmp_path / "mine" / "mlxbridge" / "config.toml"  # on macOS too
    monkeypatch.setattr(sys, "platform", "linux")
    assert config_file() == tmp_path / "mine" / "mlxbridge" / "config.toml"
    assert prefix_folder() == tmp_path / "caches" / "mlxbridge" / "prefixes"
