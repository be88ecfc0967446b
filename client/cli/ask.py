"""`penstock ask`"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, cast, get_args

import typer
from rich.live import Live
from rich.text import Text

from client.cli.options import Data, Json, NatsUrl, Tenant
from client.cli.screen import Screen, money, seconds, table
from client.cli.session import talk
from client.client import Penstock
from client.errors import UsageError
from client.submission import new_job_id
from contracts.item import Answer, Cached, Usage
from contracts.job import CacheMode, ItemResult, Options, TokenDelta

app = typer.Typer()

_MISSED = "…"

MODES = {
    "extractive": "extractive: sentences of the documents, word for word; no language model was asked",
    "degraded": "degraded: sentences of the documents, word for word, because no model could answer",
    "refused": "refused: the documents do not answer this",
}


@app.command("ask")
def command(
    question: Annotated[str, typer.Argument(help="One question.")],
    pattern: Annotated[str, typer.Option("--pattern", help="How it is answered: rag, direct, …")] = "rag",
    session: Annotated[str, typer.Option("--session", help="Conversation that the question belongs to.")] = "",
    model: Annotated[str, typer.Option("--model", help="A name of models.yaml.")] = "",
    passages: Annotated[int, typer.Option("--passages", min=1, max=30, help="How many passages the model sees.")] = 5,
    user: Annotated[str, typer.Option("--user", help="Who of the tenant's people asks, for limits by user.")] = "",
    cache: Annotated[str, typer.Option("--cache", help="Which kept answers will do: off, exact, semantic.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the answer.")] = 120.0,
    data: Data = None,
    nats_url: NatsUrl = "",
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Ask one question. The answer is shown as it is made, then its quotes. Exits with 1 where there is no answer."""
    screen = Screen(json)
    options = Options(model=model, passages=passages, session=session, cache=cache_mode(cache))

    async def body(penstock: Penstock) -> ItemResult:
        return await ask(penstock, screen, question, pattern, options, timeout, user)

    result = talk(data, nats_url, tenant, body)
    screen.document(result)
    raise typer.Exit(1 if result.failure else 0)


def cache_mode(given: str) -> CacheMode:
    """Raises UsageError for what is none."""
    for mode in get_args(CacheMode):
        if given == mode:
            return cast(CacheMode, mode)
    raise UsageError(f"--cache: expected off, exact or semantic, got {given!r}")


async def ask(
    penstock: Penstock,
    screen: Screen,
    question: str,
    pattern: str,
    options: Options,
    timeout_s: float = 120.0,
    user: str = "",
) -> ItemResult:
    """Ask, stream, and show the answer with its quotes."""
    job = new_job_id()
    draft = Draft()
    started = time.monotonic()
    try:
        if screen.out.is_terminal and not screen.is_json:
            with Live(console=screen.out, transient=True, refresh_per_second=15) as live:
                draft.show = lambda text: live.update(Text(text))
                result = await penstock.ask(question, pattern, "", draft.add, options, timeout_s, job, user)
        else:
            result = await penstock.ask(question, pattern, "", None, options, timeout_s, job, user)
    except asyncio.CancelledError:  # Ctrl-C: nobody waits for the answer any more
        await asyncio.shield(penstock.cancel(job, "the user stopped waiting"))
        raise
    show(screen, result, time.monotonic() - started, draft.first)
    return result


class Draft:
    """The answer as far as it has come, a mark where a piece was missed; starts over when an attempt was given up."""

    def __init__(self) -> None:
        self._text = ""
        self._attempt, self._index = 1, -1  # of the last piece
        self._started = time.monotonic()
        self.first: float | None = None  # seconds until the first piece
        self.show: Callable[[str], object] = str  # what to do with the text so far

    def add(self, delta: TokenDelta) -> None:
        if self.first is None:
            self.first = time.monotonic() - self._started
        if delta.attempt != self._attempt:
            self._text, self._index = "", -1
        missed = delta.index > self._index + 1
        self._text += f" {_MISSED} {delta.text}" if missed else delta.text
        self._attempt, self._index = delta.attempt, delta.index
        self.show(self._text)


def show(screen: Screen, result: ItemResult, took_s: float, first_s: float | None = None) -> None:
    """The answer or the failure, the quotes, and what it took."""
    if result.failure:
        screen.say(f"No answer ({result.failure.code}): {result.failure.reason}", "red")
    elif result.answer:
        screen.say(result.answer.text, "bold")
        _show_quotes(screen, result.answer)
        if note := rung(result.answer) or MODES.get(result.answer.mode):
            screen.say(note, "yellow")
        if result.answer.cached:
            screen.say(kept(result.answer.cached), "yellow")
        if result.verdict and not result.verdict.passed:
            screen.say(f"{result.verdict.check}: not passed: {'; '.join(result.verdict.findings)}", "yellow")
    first = f" (first words after {seconds(first_s)})" if first_s is not None else ""
    screen.say(f"{usage(result.usage)} · {seconds(took_s)}{first} · job {result.job}", "dim")
    if result.session:
        screen.say(f"the session so far: {usage(result.session)} in {result.session.calls} calls", "dim")


def rung(answer: Answer) -> str:
    """Which rung gave the answer and why, in words; empty where it was the model that was asked for."""
    if answer.rung == "primary":
        return ""
    if answer.escalate:
        kind = "degraded: a text that was written beforehand; a person should look at the question"
    elif answer.rung == "degraded":
        kind = MODES["refused" if answer.mode == "refused" else "degraded"]
    else:
        kind = f"backup: answered by {answer.model}"
    return f"{kind}\n{answer.why}"


def _show_quotes(screen: Screen, answer: Answer) -> None:
    if not answer.quotes:
        return
    rows = [
        (f"“{quote.text}”", quote.title or quote.document, quote.clause or quote.section, quote.page or "–")
        for quote in answer.quotes
    ]
    screen.out.print(table("Quotes", ("quote", "document", "clause", "page"), rows, right=("page",)))


def kept(cached: Cached) -> str:
    """Where an answer comes from that was not made for this question."""
    earlier = f" to {cached.question!r}, similarity {cached.similarity:.2f}" if cached.question else ""
    return f"kept from {seconds(cached.age_s)} ago: the answer{earlier}; no model was asked"


def usage(used: Usage) -> str:
    """Tokens and cost, in words."""
    cached = f" ({used.cached_tokens:,} cached)" if used.cached_tokens else ""
    return f"{used.prompt_tokens:,}{cached} + {used.completion_tokens:,} tokens · {money(used.cost_usd)}"
