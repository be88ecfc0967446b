"""`penstock eval retrieval`: a BEIR-format set through the real index, retrieve and rerank code, without a stack."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import msgspec
import typer
from rich.console import Console

from client.eval.beir import CorpusRow, Qrels, QueryRow, read_corpus, read_qrels, read_queries
from client.eval.metrics import ndcg, percentile, recall, reciprocal_rank
from client.eval.progress import Advance, progress
from client.eval.report import Report, compared, show
from contracts.documents import Chunk, Document
from contracts.item import Input, Item, Passage
from contracts.steps import Rerank, Retrieve
from services.rerank.domain import EvidenceScorer
from services.rerank.handlers import rerank
from services.retrieve.adapters.engines import open_search
from services.retrieve.adapters.search import Search
from services.retrieve.config import RetrieveSettings
from services.retrieve.domain import scoring
from services.retrieve.handlers import retrieve
from shared.tls import Tls

TENANT = "eval"
RERANKED = 100
TIMED_QUERIES = 50
SHARD = 15  # documents in one step, as jobs have them


class EngineName(StrEnum):
    """What `--engine` takes."""

    EDGE = "edge"
    QDRANT = "qdrant"
    OPENSEARCH = "opensearch"


@dataclass(frozen=True)
class _About:
    """What was measured on, and with what."""

    passages: int
    documents: int
    rerank: bool
    vectors: str
    words: str


@dataclass
class _Found:
    """Rankings by query, and the seconds that each took."""

    rankings: dict[str, list[str]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


def run(
    corpus: Path,
    queries: Path,
    qrels: Path,
    limit: int | None = None,
    rerank: bool = True,
    settings: RetrieveSettings | None = None,
    console: Console | None = None,
) -> Report:
    """Index a corpus in a temporary folder, or under a name of its own where the engine is a server; ask the queries,
    measure, and delete what was indexed. Raises UsageError for a malformed file."""
    rows, judged = read_corpus(corpus), read_qrels(qrels)
    asked = read_queries(queries, judged, limit)
    engines = _apart(settings or RetrieveSettings())
    screen = console or Console(stderr=True)
    return asyncio.run(_measure(rows, asked, judged, rerank, engines, screen))


async def _measure(
    rows: Sequence[CorpusRow],
    asked: Sequence[QueryRow],
    judged: Qrels,
    reranking: bool,
    settings: RetrieveSettings,
    console: Console,
) -> Report:
    documents = _documents(rows)
    with tempfile.TemporaryDirectory(prefix="penstock-eval-") as folder:
        async with open_search(settings, Path(folder), Tls.from_environment(), keep=False) as search:
            started = time.perf_counter()
            with progress(console, "indexing", len(rows)) as advance:
                await _index(search, documents, advance)
            indexing = time.perf_counter() - started
            with progress(console, "asking", len(asked)) as advance:
                found = await _ask(search, asked, reranking, advance)
            slow = await _rerank_seconds(search, asked[:TIMED_QUERIES]) if reranking else []
    about = _About(len(rows), len(documents), reranking, settings.vectors, settings.words)
    return _report(found, judged, len(rows) / indexing, slow, about)


def _documents(rows: Sequence[CorpusRow]) -> list[Document]:
    """Each row a passage as it is; rows of one document together."""
    grouped: dict[str, list[CorpusRow]] = {}
    for row in rows:
        grouped.setdefault(row.document or row.id, []).append(row)
    return [
        Document(name, TENANT, "", "", "1", [Chunk(row.id, place, row.text) for place, row in enumerate(own)])
        for name, own in grouped.items()
    ]


async def _index(search: Search, documents: Sequence[Document], advance: Advance) -> None:
    for start in range(0, len(documents), SHARD):
        some = documents[start : start + SHARD]
        await search.indexer.put_all(TENANT, some)
        for _ in (chunk for document in some for chunk in document.chunks):
            advance()


async def _ask(search: Search, asked: Sequence[QueryRow], reranking: bool, advance: Advance) -> _Found:
    found = _Found()
    for query in asked:
        started = time.perf_counter()
        passages = await _passages(search, query.text, reranking)
        found.seconds.append(time.perf_counter() - started)
        found.rankings[query.id] = [passage.chunk for passage in passages]
        advance()
    return found


async def _passages(search: Search, question: str, reranking: bool) -> list[Passage]:
    """As the steps of a slip would: retrieve 30, rerank to 10; or retrieve 10."""
    items = await retrieve([_item(question)], Retrieve(top=30 if reranking else 10), search.finder, tenant=TENANT)
    if reranking:
        items = await rerank(items, Rerank(top=10), EvidenceScorer())
    return items[0].passages


async def _rerank_seconds(search: Search, asked: Sequence[QueryRow]) -> list[float]:
    """The seconds that 100 passages take: their segments against the query, and the step itself."""
    seconds = []
    for query in asked:
        vectors = search.encoder.encode_query(query.text)
        items = await retrieve([_item(query.text)], Retrieve(top=RERANKED), search.finder, tenant=TENANT)
        with search.statistics.view(TENANT) as view:
            points = view.points_of([passage.document for passage in items[0].passages])[:RERANKED]
            started = time.perf_counter()
            scoring.segments(*view.segments(points), vectors)
        await rerank(items, Rerank(top=5), EvidenceScorer())
        seconds.append(time.perf_counter() - started)
    return seconds


def _item(question: str) -> Item:
    return Item(n=0, input=Input(question=question))


def _report(found: _Found, judged: Qrels, passages_per_s: float, slow: Sequence[float], about: _About) -> Report:
    def mean(measure: Callable[[str, list[str]], float]) -> float:
        return round(sum(measure(name, ranking) for name, ranking in found.rankings.items()) / len(found.rankings), 4)

    return Report(
        ndcg_at_10=mean(lambda name, ranking: ndcg(ranking, judged[name])),
        recall_at_5=mean(lambda name, ranking: recall(ranking, judged[name], 5)),
        recall_at_10=mean(lambda name, ranking: recall(ranking, judged[name], 10)),
        mrr_at_10=mean(lambda name, ranking: reciprocal_rank(ranking, judged[name])),
        passages_per_s=round(passages_per_s, 1),
        query_p50_ms=_ms(found.seconds, 0.5),
        query_p95_ms=_ms(found.seconds, 0.95),
        rerank_100_p50_ms=_ms(slow, 0.5) if slow else None,
        passages=about.passages,
        documents=about.documents,
        queries=len(found.rankings),
        rerank=about.rerank,
        vectors=about.vectors,
        words=about.words,
    )


def _ms(seconds: Sequence[float], share: float) -> float:
    return round(1000 * percentile(seconds, share), 2)


def _apart(settings: RetrieveSettings) -> RetrieveSettings:
    """A name of its own, so that no library of a server is touched."""
    return settings.model_copy(update={"index_name": f"{settings.index_name}-eval-{uuid4().hex[:8]}"})


def choose(settings: RetrieveSettings, engine: EngineName) -> RetrieveSettings:
    """The settings with this engine. OpenSearch holds words only: vectors are where the settings have them."""
    vectors = settings.vectors if engine is EngineName.OPENSEARCH else engine.value
    return settings.model_copy(update={"words": engine.value, "vectors": vectors})


def command(
    corpus: Annotated[Path, typer.Option(help="JSON lines with _id, text and, where passages share one, document.")],
    queries: Annotated[Path, typer.Option(help="JSON lines with _id and text.")],
    qrels: Annotated[Path, typer.Option(help="Tab-separated: query id, passage id, grade.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only so many queries, drawn with a fixed seed.")] = None,
    rerank: Annotated[bool, typer.Option("--rerank/--no-rerank", help="Rerank what was retrieved.")] = True,
    engine: Annotated[
        list[EngineName] | None,
        typer.Option(help="Instead of the engines in PENSTOCK_RETRIEVE_…; several times to compare them."),
    ] = None,
) -> None:
    """Measure retrieval on a BEIR-format set; the last line is JSON. Engines and their addresses as in
    PENSTOCK_RETRIEVE_…; what is indexed on a server has a name of its own and is deleted in the end."""
    settings = RetrieveSettings.load()
    chosen = [choose(settings, name) for name in engine or ()] or [settings]
    reports = [run(corpus, queries, qrels, limit, rerank, one) for one in chosen]
    show(reports, Console())
    typer.echo(msgspec.json.encode(reports[0] if len(reports) == 1 else compared(reports)))


app = typer.Typer()
app.command("retrieval")(command)
