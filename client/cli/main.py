"""The entry of `penstock`: finds the command, runs it, and turns every error into one line and an exit code.

Exit codes: 0 fine; 1 something failed, see the output; 2 wrong usage or input; 3 no stack answers, or it did not start;
4 the submission was refused; 5 no answer in time, the work goes on; 130 interrupted.
"""

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import typer

from client.errors import Interrupted, JobRejected, NotFound, StackError, TimedOut, Unreachable, UsageError
from shared.errors import PenstockError, QueueFull, Retryable

EXITS: tuple[tuple[type[PenstockError], int], ...] = (
    (UsageError, 2),
    (NotFound, 2),
    (Unreachable, 3),
    (StackError, 3),
    (QueueFull, 4),
    (Retryable, 3),
    (JobRejected, 4),
    (TimedOut, 5),
    (Interrupted, 130),
)
STACKS = ("embedded", "compose")
EPILOG = (
    "Exit codes: 0 fine · 1 something failed, see the output · 2 wrong usage or input · "
    "3 no stack answers · 4 refused · 5 no answer in time · 130 interrupted."
)


@dataclass(frozen=True)
class Command:
    """A command and the module that it lives in, which is imported only when the command is called."""

    name: str
    summary: str
    module: str = ""
    group: bool = False  # has commands of its own

    def load(self) -> typer.Typer:
        app = importlib.import_module(self.module or f"client.cli.{self.name}").app
        assert isinstance(app, typer.Typer)
        for command in app.registered_commands:
            if command.callback:
                command.callback = _interruptible(command.callback)
        return app


COMMANDS = (
    Command("up", "Start the embedded stack: NATS, Redis and all services."),
    Command("down", "Stop it; nothing is left running."),
    Command("status", "Services, replicas, queues, lag and memory."),
    Command("ingest", "Read documents and make them findable."),
    Command("ask", "Ask one question; the answer is streamed, with its quotes."),
    Command("batch", "Run a file of items through a pattern; repeat the command to resume."),
    Command("job", "State, counts and timeline of a job."),
    Command("cancel", "Stop a job."),
    Command("limits", "What the tenant and its users have used of their limits and budgets."),
    Command("dead", "Dead letters: list, show, redrive.", group=True),
    Command("tenant", "Tenants and their users: add, rotate, remove, list.", group=True),
    Command("reindex", "Fill search engines anew, or others, while questions go on."),
    Command("eval", "Measure retrieval, reader and the answer cache on data sets.", module="client.eval", group=True),
    Command("demo", "The tour: a library, a question, a batch of 127 of which 12 fail."),
    Command("doctor", "Check this machine and the stack, and say what to do."),
)


def main() -> None:
    """Run the command line; never shows a traceback for what can be said in a line."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        arguments = _chosen(arguments)
        build(arguments)(args=arguments, prog_name="penstock")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except PenstockError as error:
        return _tell(str(error), exit_code(error), arguments)
    except OSError as error:
        return _tell(str(error), 2 if error.filename else 3, arguments)
    except _bus_error() as error:
        return _tell(f"NATS: {str(error) or type(error).__name__}", 3, arguments)
    return 0


def _chosen(arguments: list[str]) -> list[str]:
    """Without `--stack NAME` in front of the command, which is kept for `address`."""
    if not arguments or arguments[0] != "--stack":
        return arguments
    if len(arguments) < 2 or arguments[1] not in STACKS:
        raise UsageError(f"--stack: expected {' or '.join(STACKS)}")
    os.environ["PENSTOCK_STACK"] = arguments[1]
    return arguments[2:]


def build(arguments: list[str]) -> typer.Typer:
    """The application with the called command in full and the others by name and summary."""
    app = typer.Typer(
        help="LLM work over NATS JetStream: from a published job to a cited answer. "
        "`penstock --stack compose …` talks to the stack of compose.yaml.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_nothing)
    called = next((argument for argument in arguments if not argument.startswith("-")), "")
    for command in COMMANDS:
        if command.name != called:
            app.command(command.name, help=command.summary)(_nothing)
        elif command.group:
            app.add_typer(command.load(), name=command.name, help=command.summary)
        else:
            app.add_typer(command.load())
    return app


def exit_code(error: PenstockError) -> int:
    return next((code for kind, code in EXITS if isinstance(error, kind)), 1)


def _tell(text: str, code: int, arguments: list[str]) -> int:
    line = " ".join(text.split())
    print(f"penstock: {line}", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": line, "exit_code": code}))
    return code


def _interruptible(callback: Callable[..., None]) -> Callable[..., None]:
    """Ctrl-C ends a command with our line and code; the library would say "Aborted!" and 1."""

    @functools.wraps(callback)
    def run_command(*args: object, **kwargs: object) -> None:
        try:
            callback(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    return run_command


def _bus_error() -> type[Exception]:
    """What all errors of nats-py are, without importing it where the command did not."""
    if "nats" not in sys.modules:
        return Interrupted  # nothing else to catch
    from nats.errors import Error

    return Error


def _nothing() -> None: ...


if __name__ == "__main__":
    main()
