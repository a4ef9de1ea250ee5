"""What an installation brings: every package, nothing else, and one dependency."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from bench.guest import measure_imports, measure_wheel

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUPTOOLS["package-dir"]
LINKS = ["guest", "host", "protocol"]


def folder_of(package: str) -> Path:
    """Where a package lies in the checkout."""
    root = max((name for name in FOLDERS if f"{package}.".startswith(f"{name}.")), key=len)
    return ROOT.joinpath(FOLDERS[root], *package.removeprefix(root).strip(".").split("."))


def packages_on_disk() -> set[str]:
    found = set()
    for package, folder in FOLDERS.items():
        for parent, folders, files in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if not Path(parent, name).is_symlink()]
            if any(name.endswith(".py") for name in files):
                found.add(".".join([package, *Path(parent).relative_to(ROOT / folder).parts]))
    return found


def test_every_package_is_listed() -> None:
    """setuptools takes no package that pyproject.toml does not name, and says nothing about it."""
    assert set(SETUPTOOLS["packages"]) == packages_on_disk()


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_package_has_an_init(package: str) -> None:
    assert (folder_of(package) / "__init__.py").is_file()


@pytest.mark.parametrize("package", SETUPTOOLS["package-data"])
def test_package_data_exists(package: str) -> None:
    for pattern in SETUPTOOLS["package-data"][package]:
        assert list(folder_of(package).glob(pattern)), f"{package}: nothing fits {pattern}"


@pytest.mark.parametrize("name", LINKS)
def test_link_for_static_tools_is_there(name: str) -> None:
    link = ROOT / "mlxbridge" / name
    if not link.is_symlink():
        pytest.skip(
            f"mlxbridge/{name} is no link: this still runs, but mypy and pyright do not see the package"
        )
    assert os.readlink(link) == f"../{name}"


def test_guests_need_msgpack_alone() -> None:
    (dependency,) = PROJECT["project"]["dependencies"]
    assert dependency.startswith("msgpack>=")


@pytest.mark.parametrize("script", PROJECT["project"]["scripts"].values())
def test_script_starts_something(script: str) -> None:
    module, function = script.split(":")
    package, _, name = module.rpartition(".")
    tree = ast.parse((folder_of(package) / f"{name}.py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_tests_are_no_packages() -> None:
    """A tests/host/__init__.py would shadow host."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_version_is_said_once_and_again() -> None:
    tree = ast.parse((ROOT / "mlxbridge" / "__init__.py").read_text())
    (said,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    )
    assert said == PROJECT["project"]["version"]


def builder_is_new_enough() -> bool:
    try:
        return int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(
    not builder_is_new_enough(), reason="building needs setuptools 77 or newer in this environment"
)
def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in {*FOLDERS.values(), "tests", "bench", "pyproject.toml", "README.md", "LICENSE"}:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True, timeout=120
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert all(name.startswith("mlxbridge/") for name in names)
    assert {name for name in names if name.endswith(".py")} == {
        f"{package.replace('.', '/')}/{path.name}"
        for package in SETUPTOOLS["packages"]
        for path in folder_of(package).glob("*.py")
    }
    assert {
        "mlxbridge/py.typed",
        "mlxbridge/protocol/SPEC.md",
        "mlxbridge/protocol/vectors/frames.json",
        "mlxbridge/guest/gateway/page/static/index.html",
    } <= set(names)
    sizes = measure_wheel(wheel)
    assert sizes["wheel"] < 5_000_000  # the demo model is most of it
    assert sizes["guest code"] < 270_000


def test_import_is_cheap() -> None:
    taken = measure_imports(3, ["nothing", "import mlxbridge", "mlxbridge.Client"])
    base = min(taken["nothing"]["cpu_ms"])  # the least of each: others use this machine, too
    assert min(taken["import mlxbridge"]["cpu_ms"]) - base < 50
    assert min(taken["mlxbridge.Client"]["cpu_ms"]) - base < 400
