"""``python -m mlxbridge``."""

from mlxbridge.cli import main

if __name__ == "__main__":
    main()
