"""`penstock eval cache`: which earlier question may lend its answer, measured on pairs of questions, without a stack.

The pairs that come with Penstock are 80 that ask the same and 100 that do not, though they are much alike. `--queries`
adds what people really asked: all pairs of a BEIR set's queries that are near each other and have no answer in common.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from client.cli.screen import Screen
from client.errors import UsageError
from client.eval.beir import QueryRow, read_queries_with_answers
from services.retrieve.domain.guard import told_apart
from shared.encoder import Encoder, Floats

PAIRS = Path(__file__).with_name("pairs.txt")
SAME = "same"
THRESHOLDS = (0.80, 0.85, 0.88, 0.90, 0.92, 0.94)
CHOSEN = 0.90
_BLOCK = 1000


class Pair(Struct, frozen=True):
    """Two questions, what they are to each other, and the cosine of their vectors."""

    kind: str
    one: str
    other: str
    similarity: float = 0.0


class Row(Struct, frozen=True):
    """What a threshold does: of pairs that ask the same, the share that hits; of the others, how many do, by kind."""

    threshold: float
    guarded: bool
    recall: float
    false_hits: int
    kinds: dict[str, int]
    precision: float


class Report(Struct, frozen=True):
    """The table, and the numbers at the threshold that retrieve is set to."""

    rows: list[Row]
    precision: float
    recall: float
    false_hits: int
    unguarded_false_hits: int
    pairs: int
    different: int
    beside: list[Row]


def command(
    pairs: Annotated[
        Path, typer.Argument(help="Lines of kind|question|question; kind is same, or what differs.")
    ] = PAIRS,
    queries: Annotated[
        Path | None, typer.Option("--queries", help="queries.jsonl with answers: its near pairs are tried too.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Precision and recall of the semantic answer cache at several thresholds, with and without its guard."""
    screen, encoder = Screen(json), Encoder()
    own = with_similarities(read_pairs(pairs), encoder)
    others = near_pairs(read_queries_with_answers(queries), encoder) if queries else []
    report = measured(own, others)
    show(screen.out, f"{len(own)} pairs of {pairs.name}", report.rows)
    if others:
        show(screen.out, f"{len(others)} near pairs of {queries}", report.beside)
        for pair in others:
            if pair.kind != SAME and pair.similarity >= CHOSEN and not told_apart(pair.one, pair.other):
                screen.say(f"let through at {pair.similarity:.2f}: {pair.one} | {pair.other}")
    screen.document(report)


def read_pairs(path: Path) -> list[Pair]:
    """Raises UsageError that names file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3 or not all(parts):
            raise UsageError(f"{path}, line {number}: expected kind|question|question, got {line[:80]!r}")
        found.append(Pair(parts[0], parts[1], parts[2]))
    if not {SAME} < {pair.kind for pair in found}:
        raise UsageError(f"{path}: expected pairs of the kind {SAME!r} and of others")
    return found


def with_similarities(pairs: Sequence[Pair], encoder: Encoder) -> list[Pair]:
    texts = sorted({text for pair in pairs for text in (pair.one, pair.other)})
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    return [Pair(p.kind, p.one, p.other, float(vectors[p.one] @ vectors[p.other])) for p in pairs]


def near_pairs(queries: Sequence[QueryRow], encoder: Encoder) -> list[Pair]:
    """Pairs of queries above the lowest threshold: `same` where they have an answer in common, else `other`."""
    vectors = encoder.encode([query.text for query in queries])
    pairs = [(queries[i], queries[j], cosine) for i, j, cosine in _near(vectors)]
    return [Pair(SAME if _agree(a, b) else "other", a.text, b.text, cosine) for a, b, cosine in pairs]


def _near(vectors: Floats) -> Iterator[tuple[int, int, float]]:
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        for row, column in zip(*np.where(cosines >= THRESHOLDS[0]), strict=True):
            if column > start + row:
                yield int(start + row), int(column), float(cosines[row, column])


def _agree(one: QueryRow, other: QueryRow) -> bool:
    ours, theirs = ({_plain(answer) for answer in query.answers} for query in (one, other))
    return any(a in b or b in a for a in ours for b in theirs)


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def measured(own: Sequence[Pair], others: Sequence[Pair]) -> Report:
    """The report over both lots of pairs."""
    rows = table_of(own)
    chosen = {row.guarded: row for row in rows if row.threshold == CHOSEN}
    return Report(
        rows=rows,
        precision=chosen[True].precision,
        recall=chosen[True].recall,
        false_hits=chosen[True].false_hits,
        unguarded_false_hits=chosen[False].false_hits,
        pairs=len(own),
        different=sum(pair.kind != SAME for pair in own),
        beside=table_of(others) if others else [],
    )


def table_of(pairs: Sequence[Pair]) -> list[Row]:
    """A row for each threshold, first without the guard, then with it."""
    passed = [not told_apart(pair.one, pair.other) for pair in pairs]
    same = sum(pair.kind == SAME for pair in pairs)
    rows = []
    for threshold in THRESHOLDS:
        for guarded in (False, True):
            hits = [p for p, ok in zip(pairs, passed, strict=True) if p.similarity >= threshold and (ok or not guarded)]
            right = sum(pair.kind == SAME for pair in hits)
            kinds = Counter(pair.kind for pair in hits if pair.kind != SAME)
            precision = right / len(hits) if hits else 1.0
            rows.append(Row(threshold, guarded, right / max(same, 1), kinds.total(), dict(kinds), precision))
    return rows


def show(out: Console, title: str, rows: Sequence[Row]) -> None:
    table = Table(title=title, title_justify="left")
    for heading in ("threshold", "guard", "recall", "precision", "false hits", "of them"):
        table.add_column(heading, justify="left" if heading in ("guard", "of them") else "right")
    for row in rows:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(row.kinds.items()))
        name = f"{row.threshold:.2f}{' *' if row.threshold == CHOSEN and row.guarded else ''}"
        guard = "on" if row.guarded else "off"
        table.add_row(name, guard, f"{row.recall:.2f}", f"{row.precision:.3f}", f"{row.false_hits}", kinds)
    out.print(table)
