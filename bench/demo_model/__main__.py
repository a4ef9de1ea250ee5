"""`python -m bench.demo_model train | evaluate`."""

import argparse
import json
from pathlib import Path
from typing import Any

from bench.demo_model import corpus, evaluate, train

REPORT = "REPORT.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.demo_model", description="Make the demo model.")
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser(
        "train", help="generate the corpus, train, evaluate, write the model folder"
    )
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--seed", type=int, default=1)
    training.add_argument("--steps", type=int, default=20_000)
    training.add_argument(
        "--minutes", type=float, default=60.0, help="end (and schedule) by this time at the latest"
    )
    training.add_argument("--dialogues", type=int, default=512, help="in each step")
    training.add_argument("--shards", type=int, default=120, help="of 25,000 dialogues")
    training.add_argument("--first-shard", type=int, default=0)
    training.add_argument("--rate", type=float, default=2e-3)
    training.add_argument("--resume", type=Path, help="a folder with checkpoint.safetensors")
    training.add_argument("--float32", action="store_true", help="no bfloat16 (use it on a CPU)")
    training.add_argument("--per-skill", type=int, default=150)
    testing = commands.add_parser("evaluate", help="ask the held-out questions")
    testing.add_argument("--model", type=Path, default=Path("host/models/demo"))
    testing.add_argument("--per-skill", type=int, default=150)
    testing.add_argument("--failures", type=int, default=3, help="wrong answers shown for each skill")
    testing.add_argument("--report", action="store_true", help=f"write the result into the folder's {REPORT}")
    return parser


def _write_report(folder: Path, news: dict[str, Any]) -> None:
    path = folder / REPORT
    report = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**report, **news}, indent=2) + "\n")


def main() -> None:
    arguments = _parser().parse_args()
    dialogues = list(corpus.held_out(arguments.per_skill))
    if arguments.command == "evaluate":
        result = evaluate.run(arguments.model, dialogues, arguments.failures)
        if arguments.report:
            _write_report(arguments.model, result)
        return
    plan = train.Plan(
        seed=arguments.seed,
        out=arguments.out,
        num_steps=arguments.steps,
        minutes=arguments.minutes,
        num_dialogues=arguments.dialogues,
        num_shards=arguments.shards,
        first_shard=arguments.first_shard,
        peak_rate=arguments.rate,
        resume=arguments.resume,
        is_half=not arguments.float32,
    )
    news = train.run(plan)
    _write_report(plan.out, news)
    _write_report(plan.out, evaluate.run(plan.out, dialogues))


if __name__ == "__main__":
    main()
