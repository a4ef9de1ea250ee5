"""Who imports whom: the table of folders, read from the source (imports inside functions count too)."""

import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "mlxbridge": "mlxbridge",
    "mlxbridge.protocol": "protocol",
    "mlxbridge.guest": "guest",
    "mlxbridge.host": "host",
    "bench": "bench",
}


def module_files() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for parent, folders, files in os.walk(ROOT / folder):
            folders[:] = [
                name for name in folders if not (Path(parent, name).is_symlink() or name == "__pycache__")
            ]
            for name in files:
                path = Path(parent, name)
                if path.suffix == ".py":
                    inner = path.relative_to(ROOT / folder).with_suffix("").parts
                    yield ".".join([package, *inner]).removesuffix(".__init__"), path


FILES = dict(module_files())


def imports_of(path: Path) -> list[str]:
    """Full names of what a file imports; ``from a import b`` counts as ``a.b`` if that is a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += [name if name in FILES else module for name in names]
    return found


IMPORTS = {module: imports_of(path) for module, path in FILES.items()}


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


ERRORS, TYPES, ADDRESSES = "mlxbridge.errors", "mlxbridge.types", "mlxbridge.addresses"
EVENTS, PROGRESS, LOGS = "mlxbridge.events", "mlxbridge.progress", "mlxbridge.logs"
MODEL_NAMES = "mlxbridge.model_names"
PROTOCOL, TRANSPORT, GUEST = "mlxbridge.protocol", "mlxbridge.transport", "mlxbridge.guest"
COMPAT = "mlxbridge.compat"
GATEWAY = f"{GUEST}.gateway"
HOST, ENGINE, WORKER = "mlxbridge.host", "mlxbridge.host.engine", "mlxbridge.host.worker"
EMBEDDINGS = "mlxbridge.host.embeddings"

# The longest name that fits decides. A package may always import its own modules.
ALLOWED = {
    ERRORS: [],
    TYPES: [ERRORS],
    EVENTS: [TYPES],
    ADDRESSES: [ERRORS],
    PROTOCOL: [ERRORS, TYPES],
    TRANSPORT: [ADDRESSES, ERRORS],
    "mlxbridge.facts": [],
    LOGS: [],
    MODEL_NAMES: [TYPES],
    PROGRESS: ["mlxbridge.facts"],
    GUEST: [PROTOCOL, TRANSPORT, ADDRESSES, EVENTS, PROGRESS, TYPES, ERRORS],
    # One more guest: it talks to hosts through the public client alone.
    GATEWAY: [
        "mlxbridge.AsyncClient",
        f"{COMPAT}.openai",
        f"{COMPAT}.refusal",
        TRANSPORT,
        ADDRESSES,
        EVENTS,
        LOGS,
        MODEL_NAMES,
        TYPES,
        ERRORS,
    ],
    COMPAT: [f"{GUEST}.default", MODEL_NAMES, PROGRESS, TYPES, ERRORS],
    ENGINE: [TYPES, ERRORS],
    EMBEDDINGS: [
        f"{ENGINE}.checkpoint",
        f"{ENGINE}.interface",
        f"{ENGINE}.memory",
        f"{ENGINE}.refusal",
        f"{ENGINE}.token_request",
        f"{HOST}.waiting",
        TYPES,
        ERRORS,
    ],
    WORKER: [
        EMBEDDINGS,
        ENGINE,
        LOGS,
        f"{HOST}.models.kind",
        f"{HOST}.models.store",
        f"{HOST}.params",
        f"{HOST}.token_params",
        f"{HOST}.waiting",
        PROTOCOL,
        TYPES,
        ERRORS,
    ],
    f"{HOST}.access": [ADDRESSES, ERRORS],
    f"{HOST}.server": [
        f"{ENGINE}.interface",
        f"{HOST}.access",
        LOGS,
        f"{HOST}.models",
        f"{HOST}.params",
        f"{HOST}.telemetry",
        f"{HOST}.token_params",
        f"{HOST}.waiting",
        PROTOCOL,
        TRANSPORT,
        ADDRESSES,
        TYPES,
        ERRORS,
    ],
    f"{HOST}.telemetry": [LOGS, TRANSPORT, ADDRESSES, ERRORS],
    f"{HOST}.models": [
        f"{EMBEDDINGS}.limits",
        f"{ENGINE}.checkpoint",
        f"{ENGINE}.interface",
        f"{ENGINE}.model_config",
        f"{HOST}.keep_alive",
        LOGS,
        f"{HOST}.params",
        f"{HOST}.waiting",
        PROTOCOL,
        TRANSPORT,
        TYPES,
        ERRORS,
    ],
    f"{HOST}.config": [
        f"{HOST}.access",
        f"{ENGINE}.checkpoint",
        f"{ENGINE}.interface",
        f"{ENGINE}.prefixes.part_folder",
        f"{ENGINE}.text.template",
        f"{HOST}.keep_alive",
        LOGS,
        f"{HOST}.models.kind",
        f"{HOST}.models.settings",
        f"{HOST}.models.store",
        f"{HOST}.params",
        f"{PROTOCOL}.handshake",
        ADDRESSES,
        ERRORS,
    ],
    f"{HOST}.gateway": [f"{GATEWAY}.needs", f"{HOST}.config", ADDRESSES],
    f"{HOST}.service": [f"{HOST}.models.store.source", TRANSPORT, ADDRESSES, ERRORS],
    f"{HOST}.waiting": [f"{ENGINE}.interface"],
    f"{HOST}.keep_alive": [ERRORS],
    f"{HOST}.params": [
        f"{HOST}.keep_alive",
        f"{EMBEDDINGS}.request",
        f"{ENGINE}.interface",
        f"{ENGINE}.checks",
        f"{ENGINE}.grammar.response_format",
        f"{ENGINE}.refusal",
        TYPES,
        ERRORS,
    ],
    f"{HOST}.token_params": [f"{HOST}.params", f"{ENGINE}.refusal", f"{ENGINE}.token_request", ERRORS],
}


def rule_of(module: str) -> str | None:
    fitting = [package for package in ALLOWED if within(module, package)]
    return max(fitting, key=len, default=None)


@pytest.mark.parametrize("module", sorted(FILES))
def test_module_imports_only_what_its_layer_allows(module: str) -> None:
    rule = rule_of(module)
    if rule is None:
        return
    inner = [name for name in IMPORTS[module] if within(name, "mlxbridge")]
    if not within(module, ERRORS, TYPES, ADDRESSES, PROTOCOL, ENGINE, EMBEDDINGS):
        inner = [name for name in inner if name != "mlxbridge"]  # for the version
    assert [name for name in inner if not within(name, rule, *ALLOWED[rule])] == []


def third_party(module: str) -> set[str]:
    tops = {name.split(".")[0] for name in IMPORTS[module]}
    return tops - sys.stdlib_module_names - {"mlxbridge", "bench"}


# Package: what of the standard library and of others it never imports.
IO = [
    "asyncio",
    "socket",
    "ssl",
    "os",
    "io",
    "time",
    "threading",
    "select",
    "selectors",
    "subprocess",
    "pathlib",
]
NEVER = {
    PROTOCOL: [*IO, "random", "secrets", "logging"],
    ENGINE: ["asyncio", "socket", "ssl", "select", "selectors", "subprocess", "multiprocessing"],
    EMBEDDINGS: ["asyncio", "socket", "ssl", "select", "selectors", "subprocess", "multiprocessing"],
    WORKER: ["asyncio", "multiprocessing"],
    TRANSPORT: ["msgpack"],
}


@pytest.mark.parametrize("module", sorted(name for name in FILES if within(name, *NEVER)))
def test_module_stays_away_from_what_its_layer_bans(module: str) -> None:
    banned = [name for package, names in NEVER.items() if within(module, package) for name in names]
    assert [name for name in IMPORTS[module] if within(name, *banned)] == []


@pytest.mark.parametrize("module", sorted(FILES))
def test_models_are_touched_only_where_they_run(module: str) -> None:
    if not within(module, ENGINE, EMBEDDINGS, WORKER, "bench"):
        assert third_party(module) & {"llguidance", "mlx", "mlx_lm", "transformers", "tokenizers"} == set()


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_module_goes_by_the_folder_names(module: str) -> None:
    """``import host`` works at the root of a checkout, and nowhere else."""
    assert {name.split(".")[0] for name in IMPORTS[module]} & {"host", "guest", "protocol", "tests"} == set()
    if not within(module, "bench"):
        assert not any(within(name, "bench") for name in IMPORTS[module])


def test_msgpack_is_imported_by_the_codec_alone() -> None:
    users = {module for module in FILES if "msgpack" in third_party(module) and not within(module, "bench")}
    assert users == {f"{PROTOCOL}.codec"}


@pytest.mark.parametrize(
    "module", sorted(name for name in FILES if not within(name, HOST, "bench", PROTOCOL))
)
def test_guest_side_needs_nothing_that_is_not_there(module: str) -> None:
    """numpy, pydantic and uvloop are used where they happen to be installed, from inside a function."""
    if within(module, f"{GUEST}.gateway"):
        return
    optional = {"numpy", "prompt_toolkit", "pydantic", "uvloop"}
    assert third_party(module) - optional == set()
    tree = ast.parse(FILES[module].read_text())
    at_import = {
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
    }
    assert at_import & optional == set()


def test_host_is_not_imported_from_the_guest_side() -> None:
    users = {
        module
        for module in FILES
        if not within(module, HOST, "bench") and any(within(name, HOST) for name in IMPORTS[module])
    }
    assert users <= {"mlxbridge.cli", "mlxbridge.__main__"}, "and there only inside a function"


# -- what an import really loads


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )


def loaded_by(statement: str) -> set[str]:
    code = (
        f"import sys; before = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before), sep='\\n')"
    )
    return set(python("-c", code).stdout.split())


def test_face_loads_nothing_but_itself() -> None:
    assert {name for name in loaded_by("import mlxbridge") if within(name, "mlxbridge")} == {"mlxbridge"}


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        ("import mlxbridge", ["asyncio", "numpy", "msgpack", "mlx", "mlx_lm", "ssl", "socket"]),
        ("import mlxbridge.protocol", ["asyncio", "numpy", "mlx", "mlx_lm", "socket", "ssl"]),
        ("from mlxbridge import Client", ["asyncio", "numpy", "mlx", "mlx_lm", "uvloop", "click"]),
        ("from mlxbridge import Client", [f"{GUEST}.{name}" for name in ("formats", "conversation", "many")]),
        (
            "from mlxbridge import Client",
            [f"{GUEST}.{name}" for name in ("schemas", "tools", "subscriptions")],
        ),
        ("from mlxbridge import Client", [EVENTS]),
        ("from mlxbridge import AsyncClient", ["numpy", "mlx", "mlx_lm", "click"]),
        ("import mlxbridge.compat.openai", ["asyncio", "numpy", "openai", "pydantic"]),
        ("import mlxbridge.compat.mlx_lm", ["asyncio", "numpy", "mlx", "mlx_lm", "click"]),
        ("import mlxbridge.host.cli", ["mlx", "mlx_lm", "numpy", "transformers", "asyncio"]),
        ("import mlxbridge.host.daemon", ["llguidance", "mlx", "mlx_lm", "numpy", "transformers"]),
    ],
)
def test_import_does_not_load(statement: str, banned: list[str]) -> None:
    if "host" in statement:
        pytest.importorskip("click")
        pytest.importorskip("uvloop")
    assert {name for name in loaded_by(statement) if within(name, *banned)} == set()


def import_us(name: str) -> int:
    """Cumulative microseconds that an import takes in a fresh interpreter."""
    report = python("-X", "importtime", "-c", f"import {name}").stderr
    (found,) = re.findall(rf"^import time: +\d+ \| +(\d+) \| {re.escape(name)}$", report, re.M)
    return int(found)


def test_face_is_imported_in_no_time() -> None:
    assert statistics.median(import_us("mlxbridge") for _ in range(5)) < 50_000
