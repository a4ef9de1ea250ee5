"""Write down what a VM shall run: config.py FILE MODULE_FOLDER MODULE,... OUT COMMAND...

Run by run.sh with the interpreter that the VM will use: its ``sys.prefix`` is what must be visible inside.
"""

import json
import os
import sys

KEPT = ("PATH", "LANG", "CI", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST_ADDOPTS")


def main() -> None:
    path, folder, modules, out, *command = sys.argv[1:]
    config = {
        "modules": [f"{folder}/{name}.ko" for name in modules.split(",")],
        "out": out,
        "cwd": os.getcwd(),
        "command": command,
        "environment": {
            name: value for name, value in os.environ.items() if name in KEPT or name.startswith("MLXBRIDGE_")
        },
        "needed": sorted({os.getcwd(), sys.prefix, sys.base_prefix}),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


main()
