"""The workload of `bench_prefix`: manuals, questions, the prompts that route makes of them, and how they are sent."""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from contracts.item import Input, Item, Message, Usage
from contracts.job import Options
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.salt import salt
from services.generate_gpu.engines.vllm import Vllm
from services.route.domain.prefix import prefix_key
from services.route.domain.prompts import Prompt
from services.route.domain.render import beginning, render
from services.route.domain.replicas import Candidate, pick

WORDS = """
leave request manager approval claim expense receipt day week notice period contract travel hotel limit amount
security badge visitor laptop data customer record retention audit incident report training safety office remote
schedule overtime bonus salary tax benefit health dental plan cover referral visit doctor form sign date""".split()  # noqa: SIM905 - a list of fifty quoted words would be harder to read


@dataclass(frozen=True)
class Ask:
    """One question: its prompt as route renders it, and the key by which route chooses a replica."""

    tenant: str
    request: CompletionRequest
    key: str


@dataclass(frozen=True)
class Seen:
    """What one answer took. Seconds from sending the question to the first piece of its answer; tokens."""

    ttft_s: float
    usage: Usage
    replica: str
    prefill_ms: float
    queue_ms: float
    believed: bool = False  # whether the register had this prefix at the replica

    @property
    def gone(self) -> bool:
        """Whether the prefix was not there any more, or not yet."""
        return self.usage.cached_tokens < self.usage.prompt_tokens / 2


@dataclass(frozen=True)
class Round:
    """All answers of one way of choosing replicas."""

    seen: Sequence[Seen]
    seconds: float

    @property
    def hit_rate(self) -> float:
        """Share of the prompt tokens that came from a cache."""
        return sum(one.usage.cached_tokens for one in self.seen) / sum(one.usage.prompt_tokens for one in self.seen)

    @property
    def stale(self) -> float:
        """Of the questions whose prefix the register had at their replica, the share for which it was gone."""
        believed = [one.gone for one in self.seen if one.believed]
        return sum(believed) / len(believed) if believed else 0.0

    def ttft_ms(self, percent: int) -> float:
        return quantile([one.ttft_s for one in self.seen], percent) * 1000

    @property
    def prompt_tokens_per_s(self) -> float:
        return sum(one.usage.prompt_tokens for one in self.seen) / self.seconds


@dataclass
class Replica:
    """An engine, and how many calls it has."""

    name: str
    engine: Vllm
    slots: int  # calls that it batches
    load: int = 0
    held: set[str] = field(default_factory=set)  # keys of the prefixes that it has been sent, as the register has them

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.name, self.load, self.slots)


Choose = Callable[[Ask, Sequence[Replica]], Replica]


def affinity(ask: Ask, replicas: Sequence[Replica]) -> Replica:
    """As route does: rendezvous hashing with bounded load."""
    chosen = pick(ask.key, [replica.candidate for replica in replicas])
    return next(replica for replica in replicas if chosen is not None and replica.name == chosen.name)


def round_robin() -> Choose:
    """As a queue group or a plain balancer does: one after the other."""
    turn = -1

    def choose(ask: Ask, replicas: Sequence[Replica]) -> Replica:
        nonlocal turn
        turn += 1
        return replicas[turn % len(replicas)]

    return choose


def manual(seed: int, tokens: int, count: Callable[[str], int]) -> str:
    """A policy of about this many tokens in numbered sections; another seed, another text."""
    dice = random.Random(seed)
    lines: list[str] = []
    while (missing := tokens - count("\n".join(lines))) > 0:
        for _ in range(max(1, missing // 120)):
            words = " ".join(dice.choice(WORDS) for _ in range(24))
            lines.append(f"{len(lines) + 1}. {words.capitalize()}.")
    return "\n".join(lines)


def ask(
    prompt: Prompt, tenant: str, text: str, question: str, window: int, max_tokens: int, history: Sequence[Message] = ()
) -> Ask:
    """A question about a manual, rendered by route's own functions."""
    item = Item(n=0, input=Input(question=question, variables={"manual": text}), history=list(history))
    rendered = render(item, prompt, Options(max_tokens=max_tokens), window)
    request = CompletionRequest(rendered.messages, max_tokens=max_tokens, salt=salt(tenant, rendered.prompt))
    key = prefix_key("bench", prompt, beginning(item, prompt, Options())).of(tenant)
    return Ask(tenant, request, key)


async def send(one: Ask, replica: Replica) -> Seen:
    """Ask one question and read its stream."""
    started = time.perf_counter()
    first = 0.0

    async def hear(text: str, tokens: int = 0, /) -> None:
        nonlocal first
        first = first or time.perf_counter()

    believed = one.key in replica.held
    replica.held.add(one.key)
    replica.load += 1
    try:
        (done,) = await replica.engine.complete(one.request, hear)
    finally:
        replica.load -= 1
    return Seen(first - started, done.usage, replica.name, done.timing.prefill_ms, done.timing.queue_ms, believed)


async def run(asks: Sequence[Ask], replicas: Sequence[Replica], choose: Choose, at_once: int) -> Round:
    """All questions, so many at a time."""
    waiting = iter(asks)
    seen: list[Seen] = []

    async def person() -> None:
        for one in waiting:
            answer = await send(one, choose(one, replicas))
            seen.append(answer)

    started = time.perf_counter()
    await asyncio.gather(*(person() for _ in range(at_once)))
    return Round(seen, time.perf_counter() - started)


def oracle(prompts: Sequence[tuple[str, Sequence[int]]], block: int) -> float:
    """The hit rate of a cache that forgets nothing and where each prefix is computed once.

    `prompts`: tenant and tokens of each prompt, in the order of asking. The last block of a prompt is always computed.
    """
    known: dict[str, set[int]] = {}
    hits = total = 0
    for tenant, tokens in prompts:
        mine = known.setdefault(tenant, set())
        chain = _blocks(tokens, block)
        findable = chain[: (len(tokens) - 1) // block]
        hits += block * next((at for at, one in enumerate(findable) if one not in mine), len(findable))
        mine.update(chain)
        total += len(tokens)
    return hits / total


def _blocks(tokens: Sequence[int], block: int) -> list[int]:
    """A hash for each full block, of all that stands up to its end."""
    ends = range(block, len(tokens) + 1, block)
    return list(
        accumulate((hash(tuple(tokens[end - block : end])) for end in ends), lambda left, own: hash((left, own)))
    )


def quantile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
