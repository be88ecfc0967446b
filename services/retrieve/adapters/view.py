"""One tenant's statistics, for reading. Every statement names the tenant."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.documents import Chunk, Document
from contracts.item import Passage
from services.retrieve.adapters import arrays
from services.retrieve.adapters.known import NOTHING, Known, KnownDocuments
from services.retrieve.domain.facts import DocumentFacts, PassageFacts, gather
from services.retrieve.domain.scoring import Array, Candidates, Collection, Documents, Index, QueryTerms
from shared.encoder import DIMENSIONS, Floats

_CHUNK = msgspec.msgpack.Decoder(Chunk)
_WANTED = "FROM json_each(?) AS wanted CROSS JOIN"


class View:
    """What a tenant has, read on one connection. Ids that are not the tenant's are passed over."""

    def __init__(self, db: sqlite3.Connection, tenant: str, known: KnownDocuments) -> None:
        self._db = db
        self._tenant = tenant
        self._known = known

    def revision(self, document: str) -> str | None:
        """The revision that is indexed; None where the document is not."""
        rows = self._db.execute(
            "SELECT revision FROM documents WHERE tenant = ? AND document = ?", (self._tenant, document)
        ).fetchall()
        return str(rows[0][0]) if rows else None

    def version(self) -> str:
        """Hash of ids and revisions of all documents."""
        digest = blake2b(digest_size=12)
        rows = self._db.execute("SELECT document, revision FROM documents WHERE tenant = ? ORDER BY 1", (self._tenant,))
        for document, revision in rows:
            digest.update(f"{document}\0{revision}\0".encode())
        return digest.hexdigest()

    def encoded(self, document: str) -> dict[tuple[str, str], tuple[Floats, Floats]]:
        """Vector and segments' vectors of a document's passages, by section and text, as they are stored."""
        rows = self._db.execute(
            "SELECT c.chunk, p.vector, s.vectors FROM documents d JOIN passages p ON p.document = d.id"
            " JOIN segments s ON s.id = p.id JOIN chunks c ON c.id = p.id WHERE d.tenant = ? AND d.document = ?",
            (self._tenant, document),
        )
        found = ((_CHUNK.decode(chunk), vector, pieces) for chunk, vector, pieces in rows)
        return {(chunk.section, chunk.text): (arrays.vectors([v])[0], arrays.unit_segments(s)) for chunk, v, s in found}

    def documents(self) -> list[str]:
        """Ids of all documents."""
        rows = self._db.execute("SELECT document FROM documents WHERE tenant = ? ORDER BY 1", (self._tenant,))
        return [str(row[0]) for row in rows]

    def facts(self, document: str) -> DocumentFacts | None:
        """What was indexed of a document, without segments; None where it is not there."""
        rows = self._db.execute(
            "SELECT id, revision, title, metadata FROM documents WHERE tenant = ? AND document = ?",
            (self._tenant, document),
        ).fetchall()
        if not rows:
            return None
        number, revision, title, metadata = rows[0]
        passages = [
            PassageFacts(
                point=point,
                chunk=_CHUNK.decode(chunk),
                terms=arrays.term_counts(terms, counts, length),
                vector=arrays.vectors([vector])[0],
                segments=arrays.vectors([]),
            )
            for point, length, vector, terms, counts, chunk in self._db.execute(
                "SELECT p.point, p.length, p.vector, p.terms, p.counts, c.chunk FROM passages p"
                " JOIN chunks c ON c.id = p.id WHERE p.document = ? ORDER BY p.id",
                (number,),
            )
        ]
        chunks = [passage.chunk for passage in passages]
        about = Document(document, self._tenant, title, "", revision, chunks, metadata=json.loads(metadata))
        return gather(self._tenant, about, passages)

    def collection(self) -> Collection:
        row = self._db.execute(
            "SELECT documents, passages, words FROM tenants WHERE tenant = ?", (self._tenant,)
        ).fetchone()
        return Collection(*row) if row else Collection(0, 0, 0)

    def query(self, times: Mapping[int, int]) -> QueryTerms:
        """How common a query's terms are; `times` says how often each occurs in it."""
        rows = self._db.execute(
            f"SELECT term, documents, passages {_WANTED} terms ON term = wanted.value WHERE tenant = ? ORDER BY term",
            (json.dumps(list(times)), self._tenant),
        ).fetchall()
        table = np.array(rows, dtype=np.float64).reshape(-1, 3)
        ids = np.array([row[0] for row in rows], dtype=np.uint32)
        return QueryTerms(ids, np.array([times[row[0]] for row in rows], dtype=np.float64), table[:, 1], table[:, 2])

    def candidates(self, points: Sequence[int], terms: NDArray[np.uint32]) -> Candidates:
        """What is known of the passages at these points, with the counts of these terms (ascending)."""
        rows = self._db.execute(
            f"SELECT p.point, p.document, p.length, p.towards, p.vector, p.terms, p.counts {_WANTED} passages p"
            " ON p.point = wanted.value WHERE p.tenant = ?",
            (json.dumps(list(points)), self._tenant),
        ).fetchall()
        point, document, length, towards, vector, ids, counts = zip(*rows, strict=True) if rows else ((),) * 7
        numbers, owners = np.unique(np.array(document, dtype=np.int64), return_inverse=True)
        vectors, (picked,) = arrays.vectors(vector), arrays.pick(terms, ids, counts)
        return Candidates(
            points=np.array(point, dtype=np.int64),
            owners=owners.astype(np.intp),
            lengths=np.array(length, dtype=np.float64),
            counts=picked,
            vectors=vectors,
            towards=np.array(towards, dtype=np.float64),
            documents=_with_single(self._documents("id", numbers.tolist(), terms)[1], owners, picked, vectors),
        )

    def whole_documents(self, points: Sequence[int], terms: NDArray[np.uint32]) -> tuple[list[str], Documents]:
        """Ids and facts of the documents at these points; only those of more than one passage have points."""
        return self._documents("point", points, terms)

    def points_of(self, documents: Sequence[str]) -> list[int]:
        """The points of all passages of these documents."""
        rows = self._db.execute(
            f"SELECT p.point {_WANTED} documents d ON d.document = wanted.value"
            " JOIN passages p ON p.document = d.id WHERE d.tenant = ?",
            (json.dumps(list(documents)), self._tenant),
        )
        return [int(row[0]) for row in rows]

    def segments(self, points: Sequence[int]) -> tuple[NDArray[np.int8], Index]:
        """Segment vectors of the passages, one after the other, and where each one's begin. All must be there."""
        blobs = self._of_points("s.vectors", "segments s ON s.id = p.id", points)
        return arrays.segments([row[0] for row in blobs])

    def passages(self, points: Sequence[int]) -> list[Passage]:
        """The passages as answers cite them, without scores, in the order of the points. All must be there."""
        rows = self._of_points(
            "c.chunk, d.document, d.title, d.metadata",
            "chunks c ON c.id = p.id JOIN documents d ON d.id = p.document",
            points,
        )
        return [_passage(_CHUNK.decode(chunk), *about) for chunk, *about in rows]

    def _of_points(self, columns: str, joined: str, points: Sequence[int]) -> list[tuple[Any, ...]]:
        return self._db.execute(
            f"SELECT {columns} {_WANTED} passages p ON p.point = wanted.value JOIN {joined}"
            " WHERE p.tenant = ? ORDER BY wanted.key",
            (json.dumps(list(points)), self._tenant),
        ).fetchall()

    def _documents(self, key: str, values: Sequence[int], terms: NDArray[np.uint32]) -> tuple[list[str], Documents]:
        rows = self._db.execute(
            f"SELECT d.id, d.document, d.size, d.length {_WANTED} documents d"
            f" ON d.{key} = wanted.value WHERE d.tenant = ? ORDER BY wanted.key",
            (json.dumps(list(values)), self._tenant),
        ).fetchall()
        large = self._known.get([row[0] for row in rows if row[2] > 1], self._read)
        facts = iter(large)
        each = [next(facts) if row[2] > 1 else NOTHING for row in rows]
        picked, spreads = arrays.pick(
            terms, [some.terms for some in each], [some.counts for some in each], [some.spread for some in each]
        )
        return [row[1] for row in rows], Documents(
            sizes=np.array([row[2] for row in rows], dtype=np.float64),
            lengths=np.array([row[3] for row in rows], dtype=np.float64),
            counts=picked,
            spread=spreads,
            centroids=np.array([some.centroid for some in each], dtype=np.float32).reshape(-1, DIMENSIONS),
        )

    def _read(self, numbers: Sequence[int]) -> dict[int, Known]:
        rows = self._db.execute(
            f"SELECT d.id, d.terms, d.counts, d.spread, d.centroid {_WANTED} documents d ON d.id = wanted.value",
            (json.dumps(list(numbers)),),
        )
        return {
            number: Known(terms, counts, spread, arrays.vectors([centroid])[0])
            for number, terms, counts, spread, centroid in rows
        }


def _with_single(documents: Documents, owners: Index, counts: Array, vectors: NDArray[np.float32]) -> Documents:
    """Documents of one passage are not stored twice: theirs is what the passage has."""
    of_single = np.flatnonzero(documents.sizes[owners] == 1)
    rows = owners[of_single]
    documents.counts[rows] = counts[of_single]
    documents.spread[rows] = counts[of_single] > 0
    documents.centroids[rows] = vectors[of_single]
    return documents


def _passage(chunk: Chunk, document: str, title: str, metadata: str) -> Passage:
    return Passage(
        chunk=chunk.id,
        document=document,
        title=title,
        text=chunk.text,
        section=chunk.section,
        clause=chunk.clause,
        page=chunk.page,
        page_end=chunk.page_end,
        metadata=json.loads(metadata),
    )
