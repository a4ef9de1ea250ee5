"""``python -m bench.engine``."""

from __future__ import annotations

import argparse

from bench.engine.command import add_arguments, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.engine")
    add_arguments(parser)
    run(parser.parse_args())
