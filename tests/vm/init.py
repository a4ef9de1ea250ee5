"""Process 1 of the VM that run.sh boots: mounts, modules, one command, its status, power off.

Nothing here may need a package: the interpreter starts before /tmp is set up, and with ``-I``.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import traceback
from typing import Any

SYS_FINIT_MODULE = 313  # x86_64, the only machine that Debian's user-mode-linux is for besides i386
MS_RDONLY = 1
SIOCSIFFLAGS = 0x8914
IFF_UP_LOOPBACK_RUNNING = 0x49
RB_POWER_OFF = 0x4321FEDC
BOX = "/dev/box"  # where the VM's own folder on the host is mounted: the one way out

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(kind: str, where: str, flags: int = 0, data: str = "") -> None:
    os.makedirs(where, exist_ok=True)
    check(libc.mount(b"none", where.encode(), kind.encode(), flags, data.encode()), where)


def load_module(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        check(libc.syscall(SYS_FINIT_MODULE, fd, b"", 0), path)
    finally:
        os.close(fd)


def mount_all(box: str, needed: list[str], out: str) -> None:
    mount("proc", "/proc")
    mount("sysfs", "/sys")
    mount("tmpfs", "/dev/shm")
    mount("hostfs", BOX, 0, box)
    mount("tmpfs", "/tmp")
    for path in needed:  # a checkout or a venv that the new /tmp hides
        if path.startswith("/tmp/"):
            mount("hostfs", path, MS_RDONLY, path)
    if not out.startswith(box):
        mount("hostfs", out, 0, out)


def loopback_up() -> None:
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_LOOPBACK_RUNNING))


def run(config: dict[str, Any]) -> int:
    """Run the command; its status as a shell gives it."""
    own = {"HOME": "/tmp", "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "VM_OUT": config["out"]}
    with open(f"{BOX}/output", "wb", buffering=0) as output:
        child = subprocess.Popen(
            config["command"],
            cwd=config["cwd"],
            env=config["environment"] | own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while True:  # as process 1: reap every orphan, stop with the command
            pid, status = os.wait()
            if pid == child.pid:
                break
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main() -> None:
    box = os.environ["VMDIR"]
    with open(f"{box}/config", encoding="utf-8") as file:
        config = json.load(file)
    for path in config["modules"]:
        load_module(path)
    mount_all(box, config["needed"], config["out"])
    loopback_up()
    try:
        status = run(config)
    except OSError as exc:  # the command itself cannot be run: 127, as from a shell
        with open(f"{BOX}/output", "a", encoding="utf-8") as output:
            print(f"vm: {exc}", file=output)
        status = 127
    with open(f"{BOX}/status", "w", encoding="utf-8") as file:
        file.write(str(status))


try:
    main()
except BaseException:
    traceback.print_exc()
finally:  # a process 1 that ends is a kernel panic
    sys.stdout.flush()
    os.sync()
    libc.reboot(RB_POWER_OFF)
