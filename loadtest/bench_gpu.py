"""bench-engine and bench-prefix, one after the other, on whatever model and device there is. `make bench-gpu MODEL=…`.

What both take stands once on the command line: --model, --dtype, --eager, --setting. By default the model's own type
and CUDA graphs are used, as one would serve it. Each bench runs in a process of its own, so that the first one's memory
is free for the second; replicas of bench-prefix share the device, so each gets its part of it. The last line is JSON:
the conditions, and what each bench said.
"""

import argparse
import json
import subprocess
import sys

from rich.table import Table

from loadtest.vllm_setup import add_model_arguments, conditions, screen


def main() -> int:
    options = arguments().parse_args()
    where = conditions(options)
    table = Table("condition", "")
    for name, value in where.items():
        table.add_row(name, str(value))
    screen.print(table)
    common = common_arguments(options)
    parts = {
        "engine": [*memory(where, 2), *options.engine.split()],
        "prefix": [*memory(where, options.replicas), "--replicas", str(options.replicas), *options.prefix.split()],
    }
    found = {name: run(name, [*common, *words]) for name, words in parts.items()}
    sys.stdout.write(json.dumps({"bench": "gpu", **where, **found}) + "\n")
    return 0 if all(found.values()) else 1


def run(name: str, words: list[str]) -> dict[str, object] | None:
    """The last line of a bench; None where it failed."""
    command = [sys.executable, "-m", f"loadtest.bench_{name}", *words]
    screen.print(" ".join(command[1:]), style="dim")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        screen.print(f"bench_{name} ended with {done.returncode}", style="red")
        return None
    said: dict[str, object] = json.loads(lines[-1])
    return said


def common_arguments(options: argparse.Namespace) -> list[str]:
    words = ["--dtype", options.dtype, "--eager" if options.eager else "--no-eager"]
    words += ["--model", options.model] if options.model else []
    words += ["--hidden", str(options.hidden), "--layers", str(options.layers)]
    return words + [word for one in options.setting for word in ("--setting", one)]


def memory(where: dict[str, object], engines: int) -> list[str]:
    """Engines that share one GPU share its memory; on a CPU there is no such setting to make."""
    return ["--setting", f"gpu_memory_utilization={0.9 / engines:.2f}"] if where["gpu"] else []


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=2, help="of bench-prefix (default: %(default)s)")
    parser.add_argument("--engine", default="", metavar="WORDS", help="more arguments for bench-engine, in one string")
    parser.add_argument("--prefix", default="", metavar="WORDS", help="more arguments for bench-prefix, in one string")
    add_model_arguments(parser)
    parser.set_defaults(dtype="auto", eager=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
