"""A load shape that finds the most asks a second whose p95 stays under a limit: `make load-limit P95_MS=100`.

Each user asks once a second, so users are asks a second: what slows the stack down does not slow the asking. A rate is
good where the p95 of its step is under the limit, nothing failed, and the asks really came (95 % of them answered).
"""

import statistics
import sys
from argparse import Namespace
from typing import ClassVar

import msgspec
from locust import LoadTestShape, constant_throughput, events, task
from locust.argument_parser import LocustArgumentParser

from loadtest.locustfile import PenstockUser, hang_up, options_of_penstock
from loadtest.search import STEPS, Search, Step
from loadtest.visits import ASK, ask

__all__ = ["Limit", "SteadyAsker", "hang_up", "options_of_penstock"]

SETTLE_S = 3.0
STEP_S = 12.0


@events.init_command_line_parser.add_listener
def options_of_limit(parser: LocustArgumentParser, **_: object) -> None:
    parser.add_argument("--p95-ms", type=float, default=100.0, help="the limit")
    parser.add_argument("--most", type=int, default=2048, help="try no more asks a second than this")


class SteadyAsker(PenstockUser):
    """Asks once a second."""

    wait_time = constant_throughput(1)

    @task
    def ask(self) -> None:
        self.measure(ask)


class Limit(LoadTestShape):
    """Tries one rate after the other."""

    steps: ClassVar[list[Step]] = []

    def __init__(self) -> None:
        super().__init__()
        self._search: Search | None = None
        self._began = self._limit_ms = 0.0
        self._times: list[float] = []
        self._failures = 0

    def tick(self) -> tuple[int, float] | None:
        """Locust asks each second how many users there shall be; None ends the test."""
        if self._search is None:
            self._search = self._start()
            self._begin()
        if self.get_run_time() - self._began >= SETTLE_S + STEP_S:
            self._search.tell(self._judge(self._search.rate))
            self._begin()
        rate = self._search.next()
        if rate is None:
            print(f"limit: {self._search.best} asks/s", file=sys.stderr)
        return None if rate is None else (rate, float(max(10, rate)))

    def _start(self) -> Search:
        assert self.runner is not None, "locust sets it before it ticks"
        environment = self.runner.environment
        environment.events.request.add_listener(self._note)
        given = environment.parsed_options or Namespace()
        self._limit_ms = given.p95_ms
        return Search(most=given.most)

    def _begin(self) -> None:
        self._began = self.get_run_time()
        self._times, self._failures = [], 0

    def _note(self, name: str, response_time: float, exception: Exception | None = None, **_: object) -> None:
        if self.get_run_time() - self._began < SETTLE_S:
            return
        if exception is not None:
            self._failures += 1
        elif name == ASK:
            self._times.append(response_time)

    def _judge(self, rate: int) -> bool:
        times = self._times
        step = Step(rate, round(len(times) / STEP_S, 1), failures=self._failures)
        step.p95_ms = round(statistics.quantiles(times, n=20)[-1], 1) if len(times) > 1 else 0.0
        step.good = (
            bool(times) and not step.failures and step.p95_ms < self._limit_ms and step.answered_per_s >= 0.95 * rate
        )
        self.steps.append(step)
        print(f"limit: {rate} asks/s: p95 {step.p95_ms} ms, {step.answered_per_s} answered/s", file=sys.stderr)
        return step.good


@events.quitting.add_listener
def tell(**_: object) -> None:
    """The steps, for the program that started locust."""
    print(STEPS + msgspec.json.encode(Limit.steps).decode())
