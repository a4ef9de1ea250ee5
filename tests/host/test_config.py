from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.config import (
    default_prefix_folder,
    make_config,
    make_limits,
    pair_drafts,
    parse_size,
    read_tokens,
)
from mlxbridge.host.engine.interface import EngineLimits


def make(tmp_path: Path, *listens: str, tokens: str | None = None) -> None:
    file = None
    if tokens is not None:
        file = tmp_path / "tokens"
        file.write_text(tokens)
        file.chmod(0o600)
    make_config(listens=listens, models=["demo"], token_file=file, drain_timeout_s=1)


def test_tcp_without_token_is_refused_and_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="openssl rand"):
        make(tmp_path, "tcp:127.0.0.1:2048")
    make(tmp_path, "tcp:127.0.0.1:2048", tokens="a-good-secret")


def test_default_listens_on_the_usual_socket() -> None:
    config = make_config(listens=[], models=["demo"], token_file=None, drain_timeout_s=1)
    assert str(config.listens[0]).endswith("/.mlxbridge/run/mlxbridge.sock")


def test_tokens_have_names(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# guests\n\nalice:secret-of-alice\nplain-secret\n")
    file.chmod(0o600)
    assert read_tokens(file) == {"alice": b"secret-of-alice", "default": b"plain-secret"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no token"),
        ("a:short\n", "line 1"),
        ("a:secret-one\na:secret-two\n", "comes twice"),
    ],
)
def test_bad_token_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(tmp_path, "unix:/tmp/x.sock", tokens=text)


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
    with pytest.raises(UsageError, match=f"^--draft-model: .*{message}"):
        pair_drafts(models, drafts)


def test_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        read_tokens(tmp_path / "nowhere")


def test_token_file_that_others_can_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    file.write_text("a-good-secret\n")
    file.chmod(0o644)
    read_tokens(file)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("0GB", 0),
        ("512MB", 512 << 20),
        ("512 MiB", 512 << 20),
        ("8GB", 8 << 30),
        ("8g", 8 << 30),
        ("1.5GB", 3 << 29),
        ("64kb", 64 << 10),
        ("2TB", 2 << 40),
    ],
)
def test_size_is_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size("--kv-memory", text) == size


@pytest.mark.parametrize(
    "text", ["", "8", "-1GB", "8 apples", "GB", "1e9", "1,5GB", "99999TB", "8GBB", "٣GB"]
)
def test_bad_size_is_refused_by_the_option_s_name(text: str) -> None:
    with pytest.raises(UsageError, match="--prefix-cache: ") as caught:
        make_limits(max_batch=1, max_waiting=1, kv_memory=None, prefix_cache=text)
    assert caught.value.message.endswith("; give a size such as 512MB or 8GB; powers of 1024")


def test_limits_leave_open_what_is_not_given_and_keep_what_is() -> None:
    limits = make_limits(max_batch=7, max_waiting=9, kv_memory="1GB", prefix_cache="0")
    assert (limits.max_batch, limits.max_waiting) == (7, 9)
    assert (limits.kv_bytes, limits.prefix_cache_bytes) == (1 << 30, 0)
    limits = make_limits(max_batch=7, max_waiting=9, kv_memory=None, prefix_cache=None)
    assert limits.kv_bytes is limits.prefix_cache_bytes is None
    assert limits.kv_bits is limits.kv_window is None
    sizes: dict[str, Any] = {"max_batch": 7, "max_waiting": 9, "kv_memory": None, "prefix_cache": None}
    limits = make_limits(**sizes, kv_bits=4, kv_group_size=32)
    assert (limits.kv_bits, limits.kv_group_size) == (4, 32)
    limits = make_limits(**sizes, kv_window=4096, kv_sinks=8)
    assert (limits.kv_window, limits.kv_sinks) == (4096, 8)
    with pytest.raises(UsageError, match="--kv-memory: 0 leaves no room"):
        make_limits(max_batch=7, max_waiting=9, kv_memory="0", prefix_cache=None)


def disk_limits(**options: Any) -> EngineLimits:
    return make_limits(max_batch=1, max_waiting=1, kv_memory=None, **{"prefix_cache": None, **options})


def test_prefixes_are_on_disk_only_if_asked_for_and_by_default_in_the_user_s_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    limits = disk_limits()
    assert (limits.prefix_disk_bytes, limits.prefix_disk_folder) == (0, None)
    limits = disk_limits(prefix_disk="20GB")
    assert (limits.prefix_disk_bytes, limits.prefix_disk_folder) == (20 << 30, str(default_prefix_folder()))
    for platform, folder in (("linux", "caches"), ("darwin", "Library/Caches")):
        monkeypatch.setattr(sys, "platform", platform)
        assert default_prefix_folder() == tmp_path / folder / "mlxbridge" / "prefixes"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_prefix_folder() == tmp_path / ".cache" / "mlxbridge" / "prefixes"


def test_folder_of_prefixes_may_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o700)
    for folder in (tmp_path, tmp_path / "new" / "one", Path("relative")):
        limits = disk_limits(prefix_disk="1GB", prefix_disk_folder=folder)
        assert limits.prefix_disk_folder == str(tmp_path / folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix_disk": "20"}, "--prefix-disk: '20' has no unit"),
        ({"prefix_disk": "1GB", "prefix_cache": "0"}, "--prefix-disk: .* --prefix-cache is 0"),
        (
            {"prefix_disk_folder": Path("x")},
            "--prefix-disk-folder: nothing is kept there without --prefix-disk",
        ),
        ({"prefix_disk": "0", "prefix_disk_folder": Path("x")}, "--prefix-disk-folder: nothing"),
        ({"prefix_disk": "1GB", "prefix_disk_folder": Path("/")}, "--prefix-disk-folder: /: "),
        (
            {"prefix_disk": "1GB", "prefix_disk_folder": Path(__file__)},
            "--prefix-disk-folder: .*it is no folder",
        ),
    ],
)
def test_disk_that_cannot_be_had_is_refused_by_the_option_s_name(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        disk_limits(**options)


def test_folder_that_others_may_enter_is_refused_before_anything_is_in_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(UsageError, match="one of your own"):
        disk_limits(prefix_disk="1GB", prefix_disk_folder=tmp_path)
