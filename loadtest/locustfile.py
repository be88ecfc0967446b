"""Locust's users of Penstock: some ask by NATS request, some read their answers token by token, some publish batches.

    .venv/bin/locust -f loadtest/locustfile.py      # then open http://127.0.0.1:8089

drives the stack of the current folder (`make up`), or the one at PENSTOCK_NATS_URL. An address with a password belongs
into the environment, not on the command line. `make load` does the same without a page, on a stack of its own.
"""

from argparse import Namespace
from collections.abc import Callable, Coroutine
from typing import Any

from locust import User, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from client.cli.options import address
from client.client import Penstock
from contracts.job import Lane, Options
from loadtest.bridge import Bridge
from loadtest.visits import Plan, Timing, ask, batch, connect, stream
from shared.errors import PenstockError

Visit = Callable[[Penstock, Plan], Coroutine[Any, Any, list[Timing]]]


@events.init_command_line_parser.add_listener
def options_of_penstock(parser: LocustArgumentParser, **_: object) -> None:
    """Fields of the page, too."""
    parser.add_argument("--tenant", default="default", help="whose work it is")
    parser.add_argument("--pattern", default="rag", help="the pattern of all questions")
    parser.add_argument("--model", default="noop", help="the model that answers")
    parser.add_argument("--batch-items", type=int, default=150, help="items of a batch job")


class Session:
    """What all users of a process share: the bridge, one connection, and what is asked."""

    current: "Session | None" = None

    def __init__(self, given: Namespace) -> None:
        self.bridge = Bridge()
        self.penstock = self.bridge.call(connect(address(None, "", given.tenant), given.tenant))
        self.plan = Plan(
            given.pattern, Options(model=given.model, when_ungrounded="mark", cache="off"), given.batch_items
        )

    @classmethod
    def of(cls, environment: Environment) -> "Session":
        if cls.current is None:
            cls.current = cls(environment.parsed_options or Namespace())
        return cls.current


@events.quit.add_listener
def hang_up(**_: object) -> None:
    """After the statistics have been printed."""
    if (session := Session.current) is not None:
        session.bridge.call(session.penstock.close())
        session.bridge.close()


class PenstockUser(User):
    """Does one thing again and again, and enters what it took into locust's statistics."""

    abstract = True
    host = "as the environment says"  # locust wants one; see `address`
    wait_time = between(0.5, 1.5)
    lane: Lane = "interactive"

    def on_start(self) -> None:
        self.session = Session.of(self.environment)

    def measure(self, visit: Visit) -> None:
        """A visit that fails is one failure under its own name."""
        fire = self.environment.events.request.fire
        try:
            timings = self.session.bridge.call(visit(self.session.penstock, self.session.plan))
        except PenstockError as error:
            fire(request_type=self.lane, name=visit.__name__, response_time=0, response_length=0, exception=error)
            return
        for timing in timings:
            fire(
                request_type=self.lane,
                name=timing.name,
                response_time=timing.ms,
                response_length=timing.size,
                exception=None,
            )


class Asker(PenstockUser):
    """Asks by NATS request."""

    weight = 6

    @task
    def ask(self) -> None:
        self.measure(ask)


class Reader(PenstockUser):
    """Reads its answers as they are made."""

    weight = 6

    @task
    def stream(self) -> None:
        self.measure(stream)


class Publisher(PenstockUser):
    """Publishes batch jobs and waits for their reports."""

    weight = 1
    lane: Lane = "batch"

    @task
    def batch(self) -> None:
        self.measure(batch)
