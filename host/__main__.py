"""``python -m mlxbridge.host``."""

from mlxbridge.host.cli import main

if __name__ == "__main__":
    main()
