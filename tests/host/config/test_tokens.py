from __future__ import annotations

from pathlib import Path

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.config.tokens import read_tokens


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.touch(0o600)
    return file


def test_tokens_have_names(file: Path) -> None:
    file.write_text("# guests\n\nalice:secret-of-alice\nplain-secret\n")
    assert read_tokens(file) == {"alice": b"secret-of-alice", "default": b"plain-secret"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no token"),
        ("a:short\n", "line 1"),
        ("a:secret-one\na:secret-two\n", "line 2: the name 'a' comes twice"),
    ],
)
def test_bad_token_file_is_refused_with_its_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_tokens(file)


def test_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        read_tokens(tmp_path / "nowhere")


def test_token_file_that_others_can_read_is_warned_about(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("a-good-secret\n")
    file.chmod(0o644)
    read_tokens(file)
    assert "chmod 600" in caplog.text
