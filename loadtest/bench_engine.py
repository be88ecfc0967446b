"""What Penstock costs over calling the engine directly, on a real vLLM. `make bench-engine`.

Two engines with the same model and the same settings, both loaded: one in this process (AsyncLLM, streaming), one in
the generate service of an embedded stack. Never both at work: each question goes to one side and then to the other, the
first of a pair being now this one, now that, since a machine is not as fast at every minute. The same prompts, as text,
for both: first one at a time with a pause before each, as a person has it, for the time to the first piece of text;
then so many people at once without any pause, for tokens per second. Their answers have 16 to 80 tokens: were they of
one length, all would end and begin in the same step, unless one is late for it. On our side the clock runs from before
the job is published until its first token, or its stored result, is back with the client. Each prompt is asked once of
a side, so that the prefix cache helps both alike. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.progress import track
from rich.table import Table
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from client.client import Penstock
from client.stack.config import SERVICES
from client.stack.lifecycle import down, up
from contracts.item import Input, Item, Message
from contracts.job import Options, TokenDelta
from loadtest.prefix_work import WORDS
from loadtest.vllm_setup import add_model_arguments, conditions, model_of, screen
from services.generate_gpu.engines.vllm_host import Host
from services.route.domain.prompts import Prompt, load_prompts
from services.route.domain.render import render
from shared.errors import PenstockError
from shared.models import Model

CONTEXT = 4096
READY_S = 600.0
FIRST_TOKENS = 4  # of an answer where only its first token is waited for
GOAL_MS = 15.0
GOAL_SHARE = 0.95
PAUSE = (
    "seconds before each question and round (default: %(default)s); an engine's worker looks for work for a second "
    "after its last, which takes the core from the other side"
)


@dataclass(frozen=True)
class Seen:
    """One answer. Seconds from asking to the first piece of text; tokens of the answer."""

    first_s: float
    tokens: int


Ask = Callable[[str, int], Awaitable[Seen]]
"""A question, and how many tokens its answer may have."""


@dataclass(frozen=True)
class Direct:
    """The engine as whoever embeds it would call it: prompt in, pieces out."""

    host: Host
    prompt: Prompt

    async def ask(self, question: str, max_tokens: int) -> Seen:
        started = time.perf_counter()
        first, tokens = 0.0, 0
        engine = await self.host.engine()
        given: Any = {"prompt_token_ids": await self.host.prompt(self._messages(question, max_tokens))}
        how = SamplingParams(max_tokens=max_tokens, temperature=0.0, output_kind=RequestOutputKind.DELTA)
        async with aclosing(engine.generate(given, how, uuid.uuid4().hex)) as outputs:
            async for output in outputs:
                part = output.outputs[0]
                tokens += len(part.token_ids)
                first = first or (time.perf_counter() if part.text else 0.0)
        return Seen((first or time.perf_counter()) - started, tokens)

    def _messages(self, question: str, max_tokens: int) -> list[Message]:
        """The prompt that route would make of it."""
        item = Item(n=0, input=Input(question=question))
        return render(item, self.prompt, Options(max_tokens=max_tokens), CONTEXT).messages


@dataclass(frozen=True)
class OverPenstock:
    """The same question as a job."""

    penstock: Penstock

    async def ask(self, question: str, max_tokens: int) -> Seen:
        first = 0.0

        def read(delta: TokenDelta) -> None:
            nonlocal first
            first = first or (time.perf_counter() if delta.text else 0.0)

        started = time.perf_counter()
        options = Options(max_tokens=max_tokens, stream=True)
        done = await self.penstock.ask(question, "direct", on_delta=read, options=options, timeout_s=300.0)
        if done.failure is not None:
            raise SystemExit(f"bench-engine: no answer: {done.failure.reason}")
        return Seen((first or time.perf_counter()) - started, done.usage.completion_tokens)


def questions(count: int, words: int, name: str) -> list[str]:
    """Each begins differently, so that none finds another's blocks."""
    return [f"{name} {n}: " + " ".join(WORDS[(n * 7 + i) % len(WORDS)] for i in range(words)) for n in range(count)]


def main() -> int:
    options = arguments()
    where = conditions(options)
    with tempfile.TemporaryDirectory(prefix="penstock-engine-") as folder:
        data = Path(folder).resolve()
        model = model_of(options, data / "model", CONTEXT, max_num_seqs=max(32, options.streams))
        os.environ["PENSTOCK_MODELS"] = str(write_catalogue(model, data))
        try:
            with screen.status("starting NATS, Redis, route and generate with its engine"):
                stack = up(data / "stack", READY_S, {name: SERVICES[name] for name in ("route", "generate")})
            sides = asyncio.run(compare(options, model, stack.nats_url))
        except PenstockError as error:
            print(f"bench-engine: {error}", file=sys.stderr)
            return 1
        finally:
            down(data / "stack")
    return say(options, where, *sides)


def write_catalogue(model: Model, folder: Path) -> Path:
    """A models.yaml with this one model."""
    file = folder / "models.yaml"
    file.write_text(yaml.safe_dump({"models": [model.model_dump(exclude_defaults=True)]}), encoding="utf-8")
    return file


@dataclass(frozen=True)
class Round:
    """Many people at once. Tokens of all answers a second; the median of milliseconds to the first text."""

    tokens_per_s: float
    first_ms: float


@dataclass(frozen=True)
class Side:
    """One way of asking, and what was seen of it: milliseconds to the first text one at a time, and the rounds."""

    name: str
    ask: Ask
    firsts: list[float] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)


async def compare(options: argparse.Namespace, model: Model, nats_url: str) -> tuple[Side, Side]:
    host = Host([model])
    try:
        async with await Penstock.connect(nats_url) as penstock:
            direct = Direct(host, load_prompts().get("direct"))
            sides = Side("directly", direct.ask), Side("over Penstock", OverPenstock(penstock).ask)
            await measure(options, sides)
            return sides
    finally:
        await host.close()


async def measure(options: argparse.Namespace, sides: tuple[Side, Side]) -> None:
    """The same questions in the same order for both sides."""
    for question in questions(3, options.words, "warm"):  # first calls are slow on any engine
        for side in sides:
            await side.ask(question, FIRST_TOKENS)
    asked = questions(options.asks, options.words, "one")
    for number, question in enumerate(track(asked, "one at a time", console=screen)):
        for side in in_turn(number, sides):
            await asyncio.sleep(options.pause)
            side.firsts.append((await side.ask(question, FIRST_TOKENS)).first_s * 1000)
    for number in track(range(options.rounds), f"{options.streams} at once", console=screen):
        asked = questions(options.streams * options.each, options.words, f"round {number}")
        for side in in_turn(number, sides):
            await asyncio.sleep(options.pause)
            side.rounds.append(await one_round(asked, side.ask, options))


def in_turn(number: int, sides: tuple[Side, Side]) -> tuple[Side, Side]:
    """Who is first changes, lest one always comes after the other's work."""
    return sides if number % 2 == 0 else (sides[1], sides[0])


async def one_round(asked: Sequence[str], ask: Ask, options: argparse.Namespace) -> Round:
    waiting = iter(asked)
    dice = random.Random(len(asked))
    lengths = {question: dice.randint(options.max_tokens // 3, 5 * options.max_tokens // 3) for question in asked}
    seen: list[Seen] = []

    async def person() -> None:
        for question in waiting:
            answer = await ask(question, lengths[question])
            seen.append(answer)

    started = time.perf_counter()
    await asyncio.gather(*(person() for _ in range(options.streams)))
    took = time.perf_counter() - started
    return Round(sum(one.tokens for one in seen) / took, statistics.median(one.first_s for one in seen) * 1000)


def say(options: argparse.Namespace, where: dict[str, object], direct: Side, ours: Side) -> int:
    """The table, the JSON line, and 1 where a goal is missed."""
    p50 = [statistics.median(side.firsts) for side in (direct, ours)]
    later = statistics.median(mine - other for other, mine in zip(direct.firsts, ours.firsts, strict=True))
    speed = [statistics.median(one.tokens_per_s for one in side.rounds) for side in (direct, ours)]
    crowd = [statistics.median(one.first_ms for one in side.rounds) for side in (direct, ours)]
    table = Table("", direct.name, ours.name, "goal")
    table.add_row("TTFT p50, one at a time, ms", f"{p50[0]:.1f}", f"{p50[1]:.1f} (+{p50[1] - p50[0]:.1f})", "+15.0")
    table.add_row("median of the pairs' difference, ms", "", f"+{later:.1f}", "")
    table.add_row(
        f"tokens/s, {options.streams} at once",
        f"{speed[0]:.0f}",
        f"{speed[1]:.0f} (x{speed[1] / speed[0]:.3f})",
        "x0.95",
    )
    table.add_row(f"TTFT p50, {options.streams} at once, ms", f"{crowd[0]:.0f}", f"{crowd[1]:.0f}", "")
    screen.print(table)
    if not where["gpu"]:
        screen.print(
            "No GPU: engine, services and client share the same cores, so what they cost comes off the engine."
        )
    reached = p50[1] - p50[0] <= GOAL_MS and speed[1] / speed[0] >= GOAL_SHARE
    sys.stdout.write(json.dumps({
        "bench": "engine", **where, "asks": options.asks, "pause_s": options.pause,
        "streams": options.streams, "rounds": options.rounds, "max_tokens": options.max_tokens,
        "direct_ttft_p50_ms": round(p50[0], 2), "ttft_p50_ms": round(p50[1], 2),
        "ttft_overhead_p50_ms": round(p50[1] - p50[0], 2), "ttft_pair_difference_p50_ms": round(later, 2),
        "direct_tokens_per_s": round(speed[0], 1),
        "tokens_per_s": round(speed[1], 1), "tokens_per_s_share": round(speed[1] / speed[0], 4),
        "direct_crowd_ttft_p50_ms": round(crowd[0], 1), "crowd_ttft_p50_ms": round(crowd[1], 1), "reached": reached,
    }) + "\n")  # fmt: skip
    return 0 if reached or not options.strict else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--asks", type=int, default=60, help="questions one at a time (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=1.3, help=PAUSE)
    parser.add_argument("--streams", type=int, default=16, help="people at once (default: %(default)s)")
    parser.add_argument("--each", type=int, default=5, help="questions of each in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, help="of each side (default: %(default)s)")
    parser.add_argument(
        "--max-tokens", type=int, default=48, help="of an answer in a round, on average (default: %(default)s)"
    )
    parser.add_argument("--words", type=int, default=120, help="of a question (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a goal is missed")
    add_model_arguments(parser)
    parser.set_defaults(hidden=512, layers=8)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
