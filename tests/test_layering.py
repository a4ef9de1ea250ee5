"""Who imports whom: the table of folders, read from the source (imports inside functions count too)."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from bench.guest import HOST_ENDS

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


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(), str(FILES[module]))


@cache
def imports_of(module: str) -> list[str]:
    """Full names of what a module imports; ``from a import b`` counts as ``a.b`` if that is a module."""
    found = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            whole = node.module or ""
            names = [f"{whole}.{alias.name}" for alias in node.names]
            found += [name if name in FILES else whole for name in names]
    return found


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


ERRORS, TYPES, ADDRESSES = "mlxbridge.errors", "mlxbridge.types", "mlxbridge.addresses"
CALL_IDS = "mlxbridge.call_ids"
EVENTS, PROGRESS, LOGS = "mlxbridge.events", "mlxbridge.progress", "mlxbridge.logs"
MODEL_NAMES, HTTP_ADDRESSES = "mlxbridge.model_names", "mlxbridge.http_addresses"
PROTOCOL, TRANSPORT, GUEST = "mlxbridge.protocol", "mlxbridge.transport", "mlxbridge.guest"
COMPAT = "mlxbridge.compat"
GATEWAY = f"{GUEST}.gateway"
HOST, ENGINE, WORKER = "mlxbridge.host", "mlxbridge.host.engine", "mlxbridge.host.worker"
EMBEDDINGS = "mlxbridge.host.embeddings"

# The longest name that fits decides. A package may always import its own modules.
ALLOWED = {
    ERRORS: [],
    CALL_IDS: [],
    TYPES: [ERRORS],
    EVENTS: [TYPES],
    ADDRESSES: [ERRORS],
    HTTP_ADDRESSES: [ADDRESSES, ERRORS],
    PROTOCOL: [ERRORS, TYPES],
    TRANSPORT: [ADDRESSES, ERRORS],
    "mlxbridge.facts": [],
    LOGS: [],
    MODEL_NAMES: [TYPES],
    PROGRESS: ["mlxbridge.facts"],
    GUEST: [CALL_IDS, PROTOCOL, TRANSPORT, ADDRESSES, EVENTS, PROGRESS, TYPES, ERRORS],
    # One more guest: it talks to hosts through the public client alone.
    GATEWAY: [
        CALL_IDS,
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
        HTTP_ADDRESSES,
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


def test_modules_import_only_what_their_layers_allow() -> None:
    assert by_module(not_allowed, FILES) == {}


def not_allowed(module: str) -> list[str]:
    rule = rule_of(module)
    if rule is None:
        return []
    inner = [name for name in imports_of(module) if within(name, "mlxbridge")]
    if not within(module, ERRORS, TYPES, ADDRESSES, PROTOCOL, ENGINE, EMBEDDINGS):
        inner = [name for name in inner if name != "mlxbridge"]  # for the version
    return [name for name in inner if not within(name, rule, *ALLOWED[rule])]


def by_module(
    find_wrong: Callable[[str], Collection[str]], modules: Iterable[str]
) -> dict[str, Collection[str]]:
    """What is wrong with each of the modules with which something is."""
    return {module: wrong for module in modules if (wrong := find_wrong(module))}


def third_party(module: str) -> set[str]:
    tops = {name.split(".")[0] for name in imports_of(module)}
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


def test_modules_stay_away_from_what_their_layers_ban() -> None:
    def banned(module: str) -> list[str]:
        names = [name for package, names in NEVER.items() if within(module, package) for name in names]
        return [name for name in imports_of(module) if within(name, *names)]

    assert by_module(banned, FILES) == {}


def test_models_are_touched_only_where_they_run() -> None:
    elsewhere = [name for name in FILES if not within(name, ENGINE, EMBEDDINGS, WORKER, "bench")]
    runtime = {"llguidance", "mlx", "mlx_lm", "transformers", "tokenizers"}
    assert by_module(lambda module: third_party(module) & runtime, elsewhere) == {}


def test_no_module_goes_by_the_folder_names() -> None:
    """``import host`` works at the root of a checkout, and nowhere else."""

    def folders_in(module: str) -> list[str]:
        folders = ["host", "guest", "protocol", "tests", *([] if within(module, "bench") else ["bench"])]
        return [name for name in imports_of(module) if within(name, *folders)]

    assert by_module(folders_in, FILES) == {}


def test_msgpack_is_imported_by_the_codec_alone() -> None:
    users = {module for module in FILES if "msgpack" in third_party(module) and not within(module, "bench")}
    assert users == {f"{PROTOCOL}.codec"}


def test_guest_side_needs_nothing_that_is_not_there() -> None:
    """numpy, pydantic and uvloop are used where they happen to be installed, from inside a function."""
    optional = {"numpy", "prompt_toolkit", "pydantic", "uvloop"}

    def needed(module: str) -> set[str]:
        at_import = {
            name.split(".")[0]
            for node in tree_of(module).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
        }
        return (third_party(module) - optional) | (at_import & optional)

    guests = [name for name in FILES if not within(name, HOST, "bench", PROTOCOL, GATEWAY)]
    assert by_module(needed, guests) == {}


def test_host_is_not_imported_from_the_guest_side() -> None:
    users = {
        module
        for module in FILES
        if not within(module, HOST, "bench") and any(within(name, HOST) for name in imports_of(module))
    }
    assert users <= {"mlxbridge.cli", "mlxbridge.__main__"}, "and there only inside a function"


# -- what an import really loads


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )


@cache
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
        ("from mlxbridge import Client", [path.removesuffix(".py").replace("/", ".") for path in HOST_ENDS]),
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
