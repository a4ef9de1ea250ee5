"""A fake launchctl for the tests: it knows one service, runs nothing, and refuses all but the modern verbs.

State is a JSON file, $FAKE_LAUNCHD: what is loaded, the process, and for how many looks more a process that was told to
end, or a service that was booted out, is still there, since the real ones take their time, too.
"""

import json
import os
import plistlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

STATE_FILE = Path(os.environ["FAKE_LAUNCHD"])
STATE: dict[str, Any] = {"commands": [], "domains": [f"gui/{os.getuid()}", "system"], "loaded": None, "pid": None, "next_pid": 4001,
         "leaving": 0, "ending": 0, "looks": 2, "stubborn": False, "busy": 0, "last_exit": "(never exited)"}  # fmt: skip
if STATE_FILE.exists():
    STATE.update(json.loads(STATE_FILE.read_text()))


def end(code: int, message: str = "") -> NoReturn:
    STATE_FILE.write_text(json.dumps(STATE))
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)


def spawn() -> None:
    STATE["pid"], STATE["ending"] = STATE["next_pid"], 0
    STATE["next_pid"] += 1


def forget() -> None:
    STATE.update(loaded=None, pid=None, leaving=0, ending=0)


def look() -> None:
    """Time passes when somebody looks."""
    if STATE["leaving"]:
        STATE["leaving"] -= 1
        if not STATE["leaving"]:
            forget()
    if STATE["ending"] and not STATE["stubborn"]:
        STATE["ending"] -= 1
        if not STATE["ending"]:
            STATE.update(pid=None, last_exit="0")


def check_loaded(target: str) -> None:
    if target != STATE["loaded"]:
        end(113, f'Could not find service "{target.rpartition("/")[2]}" in domain')


def print_(target: str) -> None:
    if target in STATE["domains"]:
        end(0)
    look()
    check_loaded(target)
    lines = [
        "active count = 1",
        "type = LaunchAgent",
        f"state = {'running' if STATE['pid'] else 'not running'}",
        "",
    ]
    lines += ["arguments = {", "\tpid = 1", "}", f"last exit code = {STATE['last_exit']}"]
    if STATE["pid"]:
        lines.append(f"pid = {STATE['pid']}")
    lines += ['sockets = {', '\t"bridge" = {', "\t\tstate = active", "\t}", "}"]  # fmt: skip
    print(f"{target} = {{", *(f"\t{line}" for line in lines), "}", sep="\n")


def bootstrap(domain: str, file: str) -> None:
    if STATE["busy"]:
        STATE["busy"] -= 1
        end(5, "Bootstrap failed: 5: Input/output error")
    if domain not in STATE["domains"] or STATE["loaded"]:
        end(5, "Bootstrap failed: 5: Input/output error")
    table = plistlib.loads(Path(file).read_bytes())
    sockets = table["Sockets"]["bridge"]
    for entry in sockets if isinstance(sockets, list) else [sockets]:
        if "SockPathName" in entry and not Path(entry["SockPathName"]).parent.is_dir():
            end(5, "Bootstrap failed: 5: Input/output error")
    if not Path(table["StandardOutPath"]).parent.is_dir():
        end(5, "Bootstrap failed: 5: Input/output error")
    STATE["loaded"] = f"{domain}/{table['Label']}"
    spawn()


def bootout(target: str) -> None:
    if target != STATE["loaded"]:
        end(3, "Boot-out failed: 3: No such process")
    STATE["leaving"] = STATE["looks"]


def kickstart(*words: str) -> None:
    *flags, target = words
    check_loaded(target)
    if "-k" in flags or not STATE["pid"]:
        spawn()


def kill(signal: str, target: str) -> None:
    check_loaded(target)
    assert signal == "SIGTERM"
    STATE["ending"] = STATE["looks"]


def enable(target: str) -> None:
    assert target.count("/") >= 1


VERBS: dict[str, Callable[..., None]] = {
    "print": print_,
    "bootstrap": bootstrap,
    "bootout": bootout,
    "kickstart": kickstart,
    "kill": kill,
    "enable": enable,
}
verb, *rest = sys.argv[1:]
STATE["commands"].append(" ".join(sys.argv[1:]))
if verb not in VERBS:
    end(64, f"Unrecognized subcommand: {verb}")
VERBS[verb](*rest)
end(0)
