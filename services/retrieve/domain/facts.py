"""What is known of a document once it is encoded: the raw material of engines and statistics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from contracts.documents import Chunk, Document
from services.retrieve.domain import scoring
from services.retrieve.domain.ports import Entry, Level, Point, facet
from services.retrieve.domain.segments import segments
from services.retrieve.domain.terms import Counts, TermCounts, add, count, from_counter
from shared.encoder import Encoder, Floats


@dataclass(frozen=True)
class PassageFacts:
    """A passage with its terms and vectors: `vector` (384,), `segments` (s, 384)."""

    point: int
    chunk: Chunk
    terms: TermCounts
    vector: Floats
    segments: Floats


@dataclass(frozen=True)
class DocumentFacts:
    """A document with at least one passage. `spread` counts, term by term, the passages that have it."""

    document: Document
    point: int
    passages: Sequence[PassageFacts]
    terms: TermCounts
    spread: Counts
    centroid: Floats  # (384,)


def point_id(tenant: str, document: str, place: str) -> int:
    """63 bits that say where: the same place of the same document always gets the same id."""
    digest = blake2b("\0".join((tenant, document, place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


Encoded = Mapping[tuple[str, str], tuple[Floats, Floats]]
"""What is encoded already, by section and text: the vector of a passage (384,) and of its segments (s, 384)."""


def reused(tenant: str, document: Document, chunk: Chunk, known: Encoded) -> PassageFacts | None:
    """A passage of an earlier revision, as it was encoded then; None where it is new."""
    vectors = known.get((chunk.section, chunk.text))
    if vectors is None:
        return None
    place, counted = point_id(tenant, document.id, str(chunk.ordinal)), count(searchable(document, chunk))
    return PassageFacts(place, chunk, counted, *vectors)


def encode(tenant: str, passages: Sequence[tuple[Document, Chunk]], encoder: Encoder) -> list[PassageFacts]:
    """Encode passages of any documents of a tenant.

    The headings above a passage count as part of it, except in its segments; the title counts among its words.
    """
    pieces = [segments(chunk.text) for _, chunk in passages]
    headings = [_heading(chunk) for _, chunk in passages]
    texts = [[heading, *some] if heading else some for heading, some in zip(headings, pieces, strict=True)]
    return [
        PassageFacts(
            point=point_id(tenant, document.id, str(chunk.ordinal)),
            chunk=chunk,
            terms=count(searchable(document, chunk)),
            vector=encoded.vector,
            segments=encoded.segments[-len(some) :],
        )
        for (document, chunk), some, encoded in zip(passages, pieces, encoder.encode_passages(texts), strict=True)
    ]


def searchable(document: Document, chunk: Chunk) -> str:
    """The text of a passage as words see it."""
    return "\n".join(part for part in (document.title, _heading(chunk), chunk.text) if part)


def _heading(chunk: Chunk) -> str:
    """The headings above a passage, unless its text starts with the lowest of them."""
    lowest = chunk.section.rsplit("›", 1)[-1].strip()
    return "" if not lowest or lowest in chunk.text[: len(lowest) + 10] else chunk.section


def gather(tenant: str, document: Document, passages: Sequence[PassageFacts]) -> DocumentFacts:
    """Put a document's passages together."""
    total: Floats = np.stack([passage.vector for passage in passages]).sum(axis=0)
    having = Counter(term for passage in passages for term in passage.terms.ids.tolist())
    return DocumentFacts(
        document=document,
        point=point_id(tenant, document.id, "*"),
        passages=passages,
        terms=add(passage.terms for passage in passages),
        spread=from_counter(having).counts,
        centroid=(total / max(float(np.linalg.norm(total)), 1e-9)).astype(np.float32),
    )


def entry(facts: DocumentFacts, mean_passage: float, mean_document: float) -> Entry:
    """What engines index of a document: its passages, and the whole where it has more than one.

    The mean lengths, in words, are the tenant's at this moment; weights in an engine choose candidates only.
    """
    document = facts.document
    points = [
        Point(
            passage.point,
            Level.PASSAGE,
            searchable(document, passage.chunk),
            passage.terms.ids,
            weights(passage.terms, mean_passage),
            passage.vector,
        )
        for passage in facts.passages
    ]
    if len(points) > 1:
        text = "\n\n".join(point.text for point in points)
        whole = weights(facts.terms, mean_document)
        points.append(Point(facts.point, Level.DOCUMENT, text, facts.terms.ids, whole, facts.centroid))
    return Entry(document.id, tuple(facet(key, value) for key, value in document.metadata.items()), points)


def weights(counted: TermCounts, mean_length: float) -> Floats:
    """BM25's saturation of each term, shape (terms,)."""
    counts = counted.counts.astype(np.float64)[None, :]
    saturated = scoring.saturation(counts, np.array([float(counted.length)]), mean_length)
    row: Floats = saturated[0].astype(np.float32)
    return row
