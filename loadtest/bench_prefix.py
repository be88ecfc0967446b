"""Prefix reuse over replicas: affinity against round-robin on real vLLM engines. `make bench-prefix`.

So many tenants, each with a policy manual of its own, ask so many questions about it, all in one random order. Prompts
are rendered by route's own functions, the replica is chosen by route's own function, the salt is generate's. Each
engine has room for the manuals of a little more than its share of the tenants, so that where they go matters: a cache
that holds everything everywhere would hide it. A third round asks again on the warm caches of the first. Then the
scenario of pattern 1: five follow-ups on one 6,000-token chart. The last line is JSON.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from contracts.item import Message
from loadtest.prefix_plot import plot
from loadtest.prefix_work import Ask, Choose, Replica, Round, affinity, ask, manual, oracle, round_robin, run, send
from loadtest.vllm_setup import add_model_arguments, conditions, model_of, screen
from services.generate_gpu.engines.vllm import Vllm
from services.generate_gpu.engines.vllm_host import Host
from services.route.domain.prompts import Prompt, load_prompts

BLOCK = 32  # tokens
WINDOW = 16_384
CHART_TOKENS = 6000
PROMPT_TOKENS = 150  # about so many without the manual
QUESTIONS = ("How many days are there?", "Who has to approve it?", "What is the limit?", "Which form is needed?",
             "By when is it due?", "Is there an exception?", "Who is told?", "What does it cost?", "Where is it kept?",
             "When does it end?")  # fmt: skip


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="penstock-prefix-") as folder:
        replicas = open_replicas(options, Path(folder) / "model")
        try:
            rounds, chart, perfect = await measure(options, replicas)
        finally:
            for replica in replicas:
                await replica.engine.close()
    show(rounds, chart, perfect)
    if options.plots:
        plot(rounds, chart, perfect, options.plots)
    say(options, rounds, chart, perfect)


async def measure(options: argparse.Namespace, replicas: Sequence[Replica]) -> tuple[dict[str, Round], Round, float]:
    """The rounds by name, the follow-ups on the chart, and the oracle's hit rate."""
    for replica in replicas:  # one after the other: each start takes all cores
        await replica.engine.start()
    count = await counter(replicas[0])
    prompt = load_prompts().get("policy")
    manuals = [manual(seed, options.tokens, count) for seed in range(options.tenants)]
    asks = workload(options, prompt, manuals, "")
    again = workload(options, prompt, manuals, "Please: ")
    perfect = oracle([(one.tenant, await replicas[0].engine.tokens(one.request)) for one in asks], BLOCK)
    await warm_up(replicas, prompt)
    rounds: dict[str, Round] = {}
    for name, asked, choose, cold in plan(asks, again):
        if cold:
            await forget(replicas)
        rounds[name] = await run(asked, replicas, choose, options.at_once)
        screen.print(f"{name}: hit rate {rounds[name].hit_rate:.3f}, {rounds[name].seconds:.0f} s")
    chart = await follow_ups(prompt, manual(10_000, CHART_TOKENS, count), replicas[0])
    return rounds, chart, perfect


def plan(asks: Sequence[Ask], again: Sequence[Ask]) -> list[tuple[str, Sequence[Ask], Choose, bool]]:
    """Round-robin first, so that the warm round finds what affinity left."""
    return [
        ("round-robin", asks, round_robin(), True),
        ("affinity", asks, affinity, True),
        ("warm", again, affinity, False),
    ]


def workload(options: argparse.Namespace, prompt: Prompt, manuals: Sequence[str], opening: str) -> list[Ask]:
    """Every tenant's questions about its manual, in one random order; the same for every way of choosing."""
    asks = [
        ask(prompt, f"tenant-{n}", text, f"{opening}{QUESTIONS[i % len(QUESTIONS)]}", WINDOW, options.max_tokens)
        for n, text in enumerate(manuals)
        for i in range(options.questions)
    ]
    random.Random(options.seed).shuffle(asks)
    return asks


async def follow_ups(prompt: Prompt, chart: str, replica: Replica) -> Round:
    """Five questions on one chart, each with the turns before it."""
    seen, history = [], list[Message]()
    for question in QUESTIONS[:5]:
        one = ask(prompt, "clinic", chart, question, WINDOW, 16, history)
        seen.append(await send(one, replica))
        history += [Message("user", question), Message("assistant", "It does not say.")]
    return Round(seen, sum(one.ttft_s for one in seen))


async def warm_up(replicas: Sequence[Replica], prompt: Prompt) -> None:
    """First calls are slow on any engine; nothing of this is counted."""
    for replica in replicas:
        await send(ask(prompt, "nobody", "1. Nothing.", "What?", WINDOW, 4), replica)


async def forget(replicas: Sequence[Replica]) -> None:
    for replica in replicas:
        await replica.engine.forget()
        replica.held.clear()


async def counter(replica: Replica) -> Callable[[str], int]:
    tokenizer = await replica.engine.tokenizer()
    return lambda text: len(tokenizer.encode(text))


def open_replicas(options: argparse.Namespace, folder: Path) -> list[Replica]:
    """Engines in processes of their own, as two generate services would have them."""
    tokens = max(round(share_of(options) * options.room), WINDOW + BLOCK)  # an engine takes no less than its window
    options.room = tokens / share_of(options)
    blocks = tokens // BLOCK
    about = model_of(options, folder, WINDOW, options.replicas, block_size=BLOCK, num_gpu_blocks_override=blocks)
    return [Replica(f"generate-{n}", Vllm(about, Host([about])), options.slots) for n in range(options.replicas)]


def share_of(options: argparse.Namespace) -> int:
    """Tokens of a replica's share of the manuals."""
    share: int = options.tenants * (options.tokens + PROMPT_TOKENS) // options.replicas
    return share


def show(rounds: dict[str, Round], chart: Round, perfect: float) -> None:
    table = Table("round", "hit rate", "of the oracle", "TTFT p50 ms", "TTFT p95 ms", "prompt tokens/s", "stale")
    for name, one in rounds.items():
        table.add_row(name, f"{one.hit_rate:.3f}", f"{one.hit_rate / perfect:.3f}", f"{one.ttft_ms(50):.0f}",
                      f"{one.ttft_ms(95):.0f}", f"{one.prompt_tokens_per_s:.0f}", f"{one.stale:.3f}")  # fmt: skip
    screen.print(table)
    table = Table("question on the chart", "TTFT ms", "prompt tokens", "cached")
    for n, seen in enumerate(chart.seen, start=1):
        table.add_row(str(n), f"{seen.ttft_s * 1000:.0f}", str(seen.usage.prompt_tokens), str(seen.usage.cached_tokens))
    screen.print(table)


def say(options: argparse.Namespace, rounds: dict[str, Round], chart: Round, perfect: float) -> None:
    ours, other, warm = rounds["affinity"], rounds["round-robin"], rounds["warm"]
    first, *rest = [round(one.ttft_s * 1000, 1) for one in chart.seen]
    sys.stdout.write(json.dumps({
        "bench": "prefix", **conditions(options),
        "replicas": options.replicas, "tenants": options.tenants, "questions": options.questions,
        "manual_tokens": options.tokens, "at_once": options.at_once, "slots": options.slots,
        "hit_rate": round(ours.hit_rate, 4), "round_robin_hit_rate": round(other.hit_rate, 4),
        "oracle_hit_rate": round(perfect, 4), "oracle_ratio": round(ours.hit_rate / perfect, 4),
        "ttft_p50_ms": round(ours.ttft_ms(50), 1), "ttft_p95_ms": round(ours.ttft_ms(95), 1),
        "round_robin_ttft_p50_ms": round(other.ttft_ms(50), 1), "round_robin_ttft_p95_ms": round(other.ttft_ms(95), 1),
        "warm_ttft_p50_ms": round(warm.ttft_ms(50), 1), "ttft_vs_warm": round(ours.ttft_ms(50) / warm.ttft_ms(50), 3),
        "prompt_tokens_per_s": round(ours.prompt_tokens_per_s),
        "round_robin_prompt_tokens_per_s": round(other.prompt_tokens_per_s),
        "room": round(options.room, 2), "stale": round(ours.stale, 4), "round_robin_stale": round(other.stale, 4),
        "chart_first_ttft_ms": first, "chart_follow_up_ttft_ms": rest,
        "chart_cached_tokens": [one.usage.cached_tokens for one in chart.seen],
    }) + "\n")  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tenants", type=int, default=40)
    parser.add_argument("--questions", type=int, default=10, help="of each tenant")
    parser.add_argument("--tokens", type=int, default=3000, help="of a manual")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument(
        "--room", type=float, default=1.4, help="times its share of the manuals that a cache holds; the window at least"
    )
    parser.add_argument("--at-once", type=int, default=4, help="people who ask at the same time")
    parser.add_argument("--slots", type=int, default=16, help="calls of a replica before others take its keys")
    parser.add_argument("--max-tokens", type=int, default=8, help="of an answer")
    add_model_arguments(parser)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--plots", type=Path, default=None, help="a folder for the pictures")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
