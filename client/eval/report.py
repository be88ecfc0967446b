"""What `penstock eval retrieval` has measured, and how it is shown."""

from collections.abc import Sequence

from msgspec import Struct
from rich.console import Console
from rich.table import Table


class Report(Struct, frozen=True):
    """What was measured. Quality is the mean over the queries; times are of one query at a time."""

    ndcg_at_10: float
    recall_at_5: float
    recall_at_10: float
    mrr_at_10: float
    passages_per_s: float
    query_p50_ms: float  # encoder, search, scores and, unless it was left out, rerank
    query_p95_ms: float
    rerank_100_p50_ms: float | None  # segments and rerank of 100 passages; None without rerank
    passages: int
    documents: int
    queries: int
    rerank: bool
    vectors: str = "edge"  # the engines that named candidates
    words: str = "edge"


class Comparison(Struct, frozen=True):
    """Several engines on one set, in the order in which they were named."""

    reports: list[Report]
    ndcg_at_10_apart: float  # the highest less the lowest


def compared(reports: Sequence[Report]) -> Comparison:
    quality = [report.ndcg_at_10 for report in reports]
    return Comparison(list(reports), round(max(quality) - min(quality), 4))


def show(reports: Sequence[Report], console: Console) -> None:
    """A table with a column for each engine."""
    table = Table(title="Retrieval")
    table.add_column("measure")
    for report in reports:
        table.add_column(report.words, justify="right")
    for name in Report.__struct_fields__:
        values = (getattr(report, name) for report in reports)
        table.add_row(name, *("–" if value is None else str(value) for value in values))
    console.print(table)
