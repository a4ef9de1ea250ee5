"""The guest's command line against a real host."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from mlxbridge.cli import main
from tests.helpers.command_line import run, run_process
from tests.integration.hosts import HostProcess


def test_generate_prints_the_answer_alone(host: HostProcess) -> None:
    done = run_process(host, "generate", "What is 27 + 15?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "27 + 15 = 42.\n", "")


def test_generate_reads_stdin_and_tells_the_cost(host: HostProcess) -> None:
    done = run(host, "generate", "-", "--stats", stdin="What is the capital of France?")
    assert done.stdout == "The capital of France is Paris.\n"
    assert "tokens/s, first token after" in done.stderr


def test_stats_tell_of_drafts_where_there_are_any(host: HostProcess) -> None:
    question = ("generate", "Count from 1 to 20.", "--stats")
    assert "draft" not in run(host, *question).stderr
    drafting = ("--speculation", "ngram", "--min-tokens", "200", "--max-tokens", "200")
    shown = re.search(r"ms, (\d+) of (\d+) drafted tokens accepted", run(host, *question, *drafting).stderr)
    assert shown is not None and 0 <= int(shown[1]) <= int(shown[2])


@pytest.mark.parametrize("command", ["generate", "chat", "batch"])
def test_every_flag_is_explained(command: str) -> None:
    shown = run(None, command, "--help").stdout
    flags = set(re.findall(r"^  (--[a-z-]+)", shown, re.MULTILINE))
    explained = set(re.findall(r"^  (--[a-z-]+)(?: \S+)?(?:  +|\n {20,})\w", shown, re.MULTILINE))
    assert "--top-p" in flags and not flags - explained


def test_generate_as_json(host: HostProcess) -> None:
    answer = json.loads(run(host, "generate", "What is 27 + 15?", "--json").stdout)
    assert answer["text"] == "27 + 15 = 42."
    assert answer["finish_reason"] == "stop"


def test_raw_prompt_is_continued_without_a_template(host: HostProcess) -> None:
    raw = json.loads(run(host, "generate", "--raw", "--json", "Hello", "--max-tokens", "3").stdout)
    chat = json.loads(run(host, "generate", "--json", "Hello", "--max-tokens", "3").stdout)
    assert raw["prompt_tokens"] < chat["prompt_tokens"]


def test_every_flag_for_the_answer_reaches_the_host(host: HostProcess) -> None:
    def ask(*flags: str) -> dict[str, Any]:
        done = run(host, "generate", "Count from 1 to 20.", "--json", *flags)
        assert done.stderr == ""
        return cast(dict[str, Any], json.loads(done.stdout))

    plain = ask()
    assert ask("--priority", "high")["text"] == plain["text"]
    assert ask("--stop", "7", "--stop", "5")["text"] == plain["text"].partition("5")[0]
    assert ask("--min-tokens", "90")["completion_tokens"] >= 90 > plain["completion_tokens"]
    random = ("--temperature", "2", "--seed", "3", "--max-tokens", "60")
    drawn = ask(*random)
    for name in ("repetition", "presence", "frequency"):
        assert ask(*random, f"--{name}-penalty", "9")["text"] != drawn["text"]


RANDOM = ("generate", "The ", "--temperature", "2", "--seed", "7", "--max-tokens", "8")


def test_output_that_cannot_be_written_is_no_traceback(host: HostProcess) -> None:
    command = [sys.executable, "-m", "mlxbridge", "generate", "Hello", "--url", host.url]
    reader, writer = os.pipe()
    os.close(reader)
    unread = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert (unread.returncode, unread.stderr) == (141, b"")
    with open("/dev/full", "w") as full:
        unwritten = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert (unwritten.returncode, unwritten.stderr.count(b"\n")) == (1, 1)
    assert b"No space left on device" in unwritten.stderr


def test_several_answers_say_which_one_each_is(host: HostProcess) -> None:
    alone = [run(host, *RANDOM, "--seed", str(seed)).stdout for seed in (7, 8, 9)]
    assert len(set(alone)) == 3, "else the order shows nothing"
    several = run(host, *RANDOM, "--n", "3", "--stats")
    assert several.stdout == "".join(f"--- {i} of 3\n{text}" for i, text in enumerate(alone, 1))
    assert several.stderr.count("tokens/s, first token after") == 3
    assert run(host, *RANDOM, "--n", "1").stdout == alone[0]
    answers = json.loads(run(host, *RANDOM, "--n", "3", "--json").stdout)
    assert [f"{answer['text']}\n" for answer in answers] == alone
    assert isinstance(json.loads(run(host, *RANDOM, "--n", "1", "--json").stdout), list)


def test_logprobs_have_a_line_for_each_token(host: HostProcess) -> None:
    question = ("generate", "What is 27 + 15?", "--max-tokens", "3")
    text, empty, *lines = run(host, *question, "--logprobs", "2").stdout.splitlines()
    assert "27 + 15 = 42.".startswith(text) and empty == ""
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r'(".+" -?\d+\.\d\d) of \1, ".+" -\d+\.\d\d', line), line
    lines = run(host, *question, "--logprobs", "0").stdout.splitlines()[2:]
    assert len(lines) == 3 and not any(" of " in line for line in lines)
    both = run(host, *question, "--logprobs", "0", "--n", "2").stdout.splitlines()
    assert both == ["--- 1 of 2", text, "", *lines, "--- 2 of 2", text, "", *lines]


def test_logprobs_as_json_are_named_values(host: HostProcess) -> None:
    done = run(host, "generate", "What is 27 + 15?", "--max-tokens", "3", "--logprobs", "1", "--json")
    answer = json.loads(done.stdout)
    tokens = answer["logprobs"]
    assert [token["token_id"] for token in tokens] == answer["token_ids"]
    assert "".join(token["text"] for token in tokens) == answer["text"]
    for token in tokens:
        assert token["logprob"] <= 0 and bytes(token["bytes"]).decode() == token["text"]
        assert token["top"] == [{name: token[name] for name in ("token_id", "logprob", "text", "bytes")}]
    assert json.loads(run(host, "generate", "Hello", "--json").stdout)["logprobs"] is None


def test_answer_keeps_to_a_schema_or_a_pattern(host: HostProcess, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["Berlin", "Paris"]}')
    question = "What is the capital of France?"
    assert run(host, "generate", question, "--json-schema", str(schema)).stdout == '"Paris"\n'
    assert run(host, "generate", question, "--json-schema", "-", stdin='{"const": 3}').stdout == "3\n"
    assert run(host, "generate", "What is 27 + 15?", "--regex", r"27 \+ 15 = \d+").stdout == "27 + 15 = 42\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-", "--json-schema", "-"), "stdin can be read once"),
        (("x", "--json-schema", "/nowhere/schema.json"), "No such file"),
        (("x", "--json-schema", "-"), "Expecting value"),
        (("x", "--regex", "("), "response_format.pattern at 0: unclosed group"),
    ],
)
def test_format_that_cannot_be_read_is_one_line_and_status_2(
    host: HostProcess, arguments: tuple[str, ...], message: str
) -> None:
    done = run(host, "generate", *arguments, stdin="no JSON")
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_chat_gives_one_answer_and_no_logprobs() -> None:
    for flag in ("--n", "--logprobs"):
        done = run(None, "chat", flag, "2")
        assert f"unrecognized arguments: {flag} 2" in done.stderr
        assert done.returncode == 2


def test_models_status_load_and_unload(host: HostProcess) -> None:
    assert "unloaded" in run(host, "unload", "demo").stdout
    assert run(host, "load", "demo").stdout == "demo: ready\n"
    assert run(host, "models").stdout.startswith("demo  ready")
    assert json.loads(run(host, "models", "--json").stdout)[0]["name"] == "demo"
    assert json.loads(run(host, "status", "--json").stdout)["models"][0]["state"] == "ready"


def test_status_for_people_and_again_and_again(host: HostProcess) -> None:
    lines = run(host, "status").stdout.splitlines()
    assert re.match(r"mlxbridge-host/\S+ on .+, up \d+ (s|min)$", lines[0])
    assert lines[-1].split()[0] == "demo"
    watching = [sys.executable, "-m", "mlxbridge", "status", "--url", host.url, "--watch", "0.1"]
    for given in ([], ["--json"]):
        with subprocess.Popen([*watching, *given], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(3)]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        for line in told:
            assert ("demo" in json.loads(line)["models"][0]["name"]) if given else "; demo " in line


def test_words_and_stdin_make_a_prompt(host: HostProcess) -> None:
    assert run(host, "generate", "What", "is", "27 + 15?").stdout == "27 + 15 = 42.\n"

    def num_tokens(*arguments: str, stdin: str = "") -> int:
        done = run(host, "generate", *arguments, "--json", "--max-tokens", "1", stdin=stdin)
        return int(json.loads(done.stdout)["prompt_tokens"])

    assert num_tokens("a", "b", "-", "c", stdin="\nx\ny\n") == num_tokens("a b\n\nx\ny\n\nc")
    assert num_tokens("--raw", "-", stdin="x\n\n") == num_tokens("--raw", "x\n\n")


def test_models_are_told_as_json(host: HostProcess) -> None:
    assert json.loads(run(host, "load", "demo", "--json").stdout)["state"] == "ready"
    assert json.loads(run(host, "show", "demo", "--json").stdout)["name"] == "demo"


def test_ping_counts_round_trips(host: HostProcess) -> None:
    told = json.loads(run(host, "ping", "-c", "3", "--json").stdout)
    assert told["address"] == host.url and 0 < told["best_us"] <= told["median_us"] <= told["worst_us"]
    done = run(host, "ping", "-c", "3")
    assert "connected to unix://" in done.stdout
    assert "3 round trips: median" in done.stdout


def test_ping_tells_each_place_that_it_tried(host: HostProcess) -> None:
    nowhere = "unix:///nowhere/a.sock"
    done = run(host, "ping", "-v", "-c", "1", "--url", f"{nowhere},{host.url}")
    assert f"{nowhere}: there is no such file" in done.stdout
    assert f"{host.url}: mlxbridge-host/" in done.stdout
    done = run(host, "ping", "-v", "-c", "1", "--json", "--url", f"{nowhere},{host.url}")
    told = json.loads(done.stdout)
    assert told["address"] == host.url and told["count"] == 1
    assert [place["place"] for place in told["tried"]] == [nowhere, host.url]
    done = run(host, "ping", "-v", "--url", nowhere)
    assert done.returncode == 3 and "none of these places has a host" in done.stderr


def test_ping_tells_of_the_place_whose_host_refused(
    host: HostProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLXBRIDGE_TOKEN", "guest:secret-of-guest")
    with pytest.raises(SystemExit):
        main(["ping", "-v", "--url", f"unix:///nowhere/a.sock,{host.url}"])
    said = capsys.readouterr()
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == ["unix:///nowhere/a.sock", host.url]
    assert "the host has none" in said.out and said.err.startswith("mlxbridge: AuthenticationError: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "x", "--model", "nix"), "ModelNotFound: this host has no model 'nix'"),
        (("generate", "x", "--temperature", "-1"), "InvalidArgument: temperature"),
        (("generate", "x", "--min-tokens", "-1"), "InvalidArgument: min_tokens"),
        (("generate", "x", "--repetition-penalty", "0"), "InvalidArgument: repetition_penalty"),
        (("generate", "x", "--presence-penalty", "nan"), "InvalidArgument: presence_penalty"),
        (("generate", "x", "--frequency-penalty", "99"), "InvalidArgument: frequency_penalty"),
        (("generate", "x", "--n", "0"), "UsageError: n: must be a whole number from 1"),
        (("generate", "x", "--logprobs", "21"), "InvalidArgument: logprobs"),
        (("generate", "x", "--raw", "--system", "y"), "--system needs the chat template"),
        (("ping", "-c", "0"), "--count must be at least 1"),
        (("models", "--url", "ftp://x"), "unknown scheme 'ftp'"),
        (("generate", "x", "--timeout", "-1"), "UsageError: timeout: must be"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    host: HostProcess, arguments: tuple[str, ...], message: str
) -> None:
    done = run(host, *arguments)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert (done.stdout, done.returncode) == ("", 2)


def test_unknown_priority_is_refused_before_anything_is_sent() -> None:
    done = run(None, "generate", "x", "--priority", "urgent")
    assert "invalid choice: 'urgent'" in done.stderr
    assert done.returncode == 2


def test_no_host_is_one_line_and_status_3() -> None:
    done = run_process(None, "generate", "x")
    assert "unix:///nowhere/m.sock" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 3
