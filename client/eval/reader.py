"""`penstock eval reader`: questions with known answers through the real retrieve, rerank and reader, without a stack.

Whether it answers: the set's own questions; an answer counts where it holds one of the gold strings.
Whether it refuses: questions of the sets beside it (another subject altogether), and, harder, questions of the set
itself, asked before the passages around theirs are indexed (the subject is near, the answer is not there).
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from client.errors import UsageError
from client.eval.beir import CorpusRow, Qrels, QueryRow, read_corpus, read_qrels, read_queries
from client.eval.metrics import percentile
from client.eval.progress import progress
from contracts.documents import Chunk, Document
from contracts.item import Completion, Input, Item
from contracts.steps import Rerank, Retrieve
from services.generate_gpu.domain.reader import read
from services.rerank.domain import EvidenceScorer
from services.rerank.handlers import rerank
from services.retrieve.adapters.engines import open_search
from services.retrieve.adapters.search import Search
from services.retrieve.config import RetrieveSettings
from services.retrieve.handlers import retrieve
from shared.tls import Tls

SQUAD = Path(__file__).parents[2].parent / "shared" / "data" / "retrieval" / "squad"
TENANT = "eval"
CANDIDATES, READ = 30, 5
LEFT_OUT = 1 / 3  # of the passages, in one piece, while the hard questions are asked
MARGIN = 60  # passages at both ends of that piece: their questions may belong to an article that is there in part
OFF_TOPIC = 200  # questions of each set beside this one, at most


class Report(Struct, frozen=True):
    """What was measured; rates 0…1, None where there was nothing to ask."""

    answer_rate: float  # answers, of at most three sentences, that hold a gold string; a refusal does not
    first_sentence_rate: float  # answers whose first sentence holds it
    mean_sentences: float  # of an answer
    false_refusal_rate: float
    off_topic_refused: float | None
    hard_off_topic_refused: float | None
    p50_ms: float  # a question: encode, retrieve, rerank, read
    read_p50_ms: float  # of these, the reader
    questions: int
    off_topic: int
    hard_off_topic: int


class Asked(Struct, frozen=True):
    """A question with what the reader said, and the seconds for all of it and for the reader."""

    question: QueryRow
    completion: Completion
    seconds: float
    reading: float

    @property
    def refused(self) -> bool:
        return self.completion.mode == "refused"

    def holds_answer(self, text: str) -> bool:
        return any(_plain(answer) in _plain(text) for answer in self.question.answers)


class Trial(Struct, frozen=True):
    """The passages and the questions of a run."""

    early: list[CorpusRow]  # indexed before the hard questions are asked
    late: list[CorpusRow]
    questions: list[QueryRow]
    hard: list[QueryRow]
    off_topic: list[QueryRow]


def run(data: Path, limit: int = 2000, console: Console | None = None) -> Report:
    """Measure on a folder with `corpus.jsonl`, `queries.jsonl` (with `answers`) and `qrels.tsv`.

    Raises UsageError for a malformed file.
    """
    corpus, judged = read_corpus(data / "corpus.jsonl"), read_qrels(data / "qrels.tsv")
    questions = read_queries(data / "queries.jsonl", judged, limit)
    if not all(question.answers for question in questions):
        raise UsageError(f"{data / 'queries.jsonl'}: answers: expected at least one for every question")
    trial = plan(corpus, questions, judged, _beside(data))
    return asyncio.run(_measure(trial, console or Console(stderr=True)))


def plan(corpus: list[CorpusRow], questions: list[QueryRow], judged: Qrels, off_topic: list[QueryRow]) -> Trial:
    """Leave out the middle of the corpus; the hard questions are those whose passages lie well within."""
    first = int(len(corpus) * (1 - LEFT_OUT) / 2)
    last = int(len(corpus) * (1 + LEFT_OUT) / 2)
    margin = min(MARGIN, (last - first) // 4)
    inside = {row.id for row in corpus[first + margin : last - margin]}
    return Trial(
        early=corpus[:first] + corpus[last:],
        late=corpus[first:last],
        questions=questions,
        hard=[question for question in questions if judged[question.id].keys() <= inside],
        off_topic=off_topic,
    )


def _beside(data: Path) -> list[QueryRow]:
    """Questions of the other sets in the same folder."""
    folders = [f for f in sorted(data.resolve().parent.iterdir()) if f.is_dir() and f != data.resolve()]
    found = []
    for folder in folders:
        if (folder / "queries.jsonl").exists() and (folder / "qrels.tsv").exists():
            found += read_queries(folder / "queries.jsonl", read_qrels(folder / "qrels.tsv"), OFF_TOPIC)
    return found


async def _measure(trial: Trial, console: Console) -> Report:
    with tempfile.TemporaryDirectory(prefix="penstock-eval-") as folder:
        async with open_search(RetrieveSettings.load(), Path(folder), Tls.from_environment()) as search:
            await _index(search, trial.early, "indexing", console)
            hard = await _ask(search, trial.hard, "asking what is not there yet", console)
            await _index(search, trial.late, "indexing the rest", console)
            off_topic = await _ask(search, trial.off_topic, "asking what is off topic", console)
            asked = await _ask(search, trial.questions, "asking", console)
    return summarise(asked, hard, off_topic)


async def _index(search: Search, rows: Sequence[CorpusRow], what: str, console: Console) -> None:
    with progress(console, what, len(rows)) as advance:
        for row in rows:
            await search.indexer.put(TENANT, Document(row.id, TENANT, "", "", "1", [Chunk(row.id, 0, row.text)]))
            advance()


async def _ask(search: Search, questions: Sequence[QueryRow], what: str, console: Console) -> list[Asked]:
    asked = []
    with progress(console, what, len(questions)) as advance:
        for question in questions:
            asked.append(await _answer(search, question))
            advance()
    return asked


async def _answer(search: Search, question: QueryRow) -> Asked:
    started = time.perf_counter()
    items = [Item(n=0, input=Input(question=question.text))]
    items = await retrieve(items, Retrieve(top=CANDIDATES), search.finder, tenant=TENANT)
    items = await rerank(items, Rerank(top=READ), EvidenceScorer())
    reading = time.perf_counter()
    completion = read(question.text, items[0].passages, search.encoder)
    ended = time.perf_counter()
    return Asked(question, completion, ended - started, ended - reading)


def summarise(asked: Sequence[Asked], hard: Sequence[Asked], off_topic: Sequence[Asked]) -> Report:
    """The report of a run."""
    answered = [one for one in asked if not one.refused]
    firsts = [one for one in answered if one.holds_answer(one.completion.quotes[0].text)]
    return Report(
        answer_rate=_share(sum(one.holds_answer(one.completion.text) for one in answered), len(asked)) or 0.0,
        first_sentence_rate=_share(len(firsts), len(asked)) or 0.0,
        mean_sentences=_share(sum(len(one.completion.quotes) for one in answered), len(answered)) or 0.0,
        false_refusal_rate=_share(len(asked) - len(answered), len(asked)) or 0.0,
        off_topic_refused=_share(sum(one.refused for one in off_topic), len(off_topic)),
        hard_off_topic_refused=_share(sum(one.refused for one in hard), len(hard)),
        p50_ms=round(1000 * percentile([one.seconds for one in asked], 0.5), 1),
        read_p50_ms=round(1000 * percentile([one.reading for one in asked], 0.5), 1),
        questions=len(asked),
        off_topic=len(off_topic),
        hard_off_topic=len(hard),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def command(
    data: Annotated[Path, typer.Option(help="Folder with corpus.jsonl, queries.jsonl and qrels.tsv.")] = SQUAD,
    limit: Annotated[int, typer.Option(min=1, help="Ask so many questions, drawn with a fixed seed.")] = 2000,
) -> None:
    """Measure the extractive reader on questions with known answers; the last line is JSON."""
    report = run(data, limit)
    table = Table(title="Extractive reader")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in msgspec.structs.asdict(report).items():
        table.add_row(name, "–" if value is None else str(value))
    Console().print(table)
    typer.echo(msgspec.json.encode(report))
