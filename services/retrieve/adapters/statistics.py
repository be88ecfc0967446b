"""The statistics of each tenant's documents, in SQLite beside the index.

They are what makes scores: engines only name candidates. A document is replaced in one transaction, and what was
committed survives a killed process (write-ahead log).
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from services.retrieve.adapters.arrays import BYTES, COUNTS, HALVES, TERMS, blob
from services.retrieve.adapters.known import KnownDocuments
from services.retrieve.adapters.view import View
from services.retrieve.domain.facts import DocumentFacts, PassageFacts
from services.retrieve.domain.ports import Head
from services.retrieve.domain.scoring import to_int8

_SCHEMA = Path(__file__).with_name("schema.sql")
_VERSION = 2
_PRAGMAS = (
    "PRAGMA page_size=8192",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA cache_size=-4096",
    "PRAGMA mmap_size=4294967296",
    "PRAGMA secure_delete=ON",  # an erased tenant's words are in no file
)


class Statistics:
    """Written by one thread at a time, read by any number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.erased: set[str] = set()  # tenants of whom files and memory may still hold something: see `Erasure`
        self._writing = threading.Lock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._known = KnownDocuments()
        self._versions: dict[str, str] = {}
        self._changes = 0
        self._changing = threading.Lock()

    def open(self) -> bool:
        """Create what is missing; returns whether there was nothing of this version."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._version() != _VERSION:
            for path in _files(self._path):
                path.unlink(missing_ok=True)
        created = not self._path.exists()
        with self._transaction() as db:
            db.executescript(f"{_SCHEMA.read_text()}; PRAGMA user_version={_VERSION}")
        return created

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()

    def move_to(self, path: Path) -> None:
        """Go on in another file, with the same content. Who reads at this moment finishes in the earlier one, which is
        left."""
        if path == self._path:
            return
        with self._writing:
            for file in _files(path):
                file.unlink(missing_ok=True)
            self._connection().execute("VACUUM INTO ?", (str(path),))
            self._path = path
            self._local = threading.local()

    def delete(self, path: Path) -> None:
        """Delete a file that was moved from."""
        if path != self._path:
            for file in _files(path):
                file.unlink(missing_ok=True)

    @property
    def path(self) -> Path:
        return self._path

    def clear(self) -> None:
        """Forget everything of every tenant, the checkpoint too."""
        with self._transaction() as db:
            for table in ("checkpoint", "tenants", "documents", "passages", "segments", "chunks", "terms"):
                db.execute(f"DELETE FROM {table}")
        self._changed()

    def compact(self) -> None:
        """Empty the write-ahead log, which keeps what was deleted until it is written over, and what is remembered of
        documents."""
        self._known.clear()
        with self._writing:
            self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def checkpoint(self) -> Head:
        """Up to where which log has been applied."""
        row = self._connection().execute("SELECT log, sequence FROM checkpoint").fetchone()
        return Head(*row) if row else Head("", 0)

    def set_checkpoint(self, head: Head) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM checkpoint")
            db.execute("INSERT INTO checkpoint VALUES (?, ?)", (head.log, head.sequence))

    def inventory(self) -> set[tuple[str, str]]:
        """Tenant and id of every document."""
        return set(self._connection().execute("SELECT tenant, document FROM documents"))

    @contextmanager
    def view(self, tenant: str) -> Iterator[View]:
        """A tenant's statistics as they are at this moment; they stay so within the block."""
        db = self._connection()
        db.execute("BEGIN")
        try:
            yield View(db, tenant, self._known)
        finally:
            db.execute("COMMIT")

    def known_version(self, tenant: str) -> str | None:
        """The version, where it has been asked for since the last change."""
        return self._versions.get(tenant)

    def version(self, tenant: str) -> str:
        """Hash of what the tenant has: ids and revisions of its documents. The same documents, the same version."""
        changes = self._changes
        with self.view(tenant) as view:
            version = view.version()
        with self._changing:
            if changes == self._changes:  # else it may be one that has just gone
                self._versions[tenant] = version
        return version

    def _changed(self) -> None:
        """After the commit: a version that was read before it counts no more."""
        with self._changing:
            self._changes += 1
            self._versions.clear()

    def replace(self, tenant: str, facts: DocumentFacts) -> None:
        """Put a document in the place of its earlier revision.

        Raises sqlite3.IntegrityError where two passages had the same point, so none can ever stand for another.
        """
        with self._transaction() as db:
            _remove(db, tenant, facts.document.id)
            _insert(db, tenant, facts)
        self._changed()

    def remove(self, tenant: str, document: str) -> None:
        with self._transaction() as db:
            _remove(db, tenant, document)
        self._changed()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:  # whatever it is: a transaction left open would block every later one
                db.execute("ROLLBACK")
                raise
            if db.in_transaction:
                db.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection: readers do not wait for the writer."""
        if not hasattr(self._local, "connection"):
            db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
            for pragma in _PRAGMAS:
                db.execute(pragma)
            self._local.connection = db
            self._connections.append(db)
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _version(self) -> int:
        if not self._path.exists():
            return _VERSION
        with sqlite3.connect(self._path) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _remove(db: sqlite3.Connection, tenant: str, document: str) -> None:
    found = db.execute(
        "SELECT id, size, length, terms, spread FROM documents WHERE tenant = ? AND document = ?", (tenant, document)
    ).fetchone()
    if found is None:
        return
    number, size, length, terms, spread = found
    if size == 1:
        terms = db.execute("SELECT terms FROM passages WHERE document = ?", (number,)).fetchone()[0]
        spread = np.ones(len(terms) // 4, COUNTS).tobytes()
    _count(db, tenant, terms, spread, -1)
    _add_to_tenant(db, tenant, -1, -size, -length)
    for table in ("segments", "chunks"):
        db.execute(f"DELETE FROM {table} WHERE id IN (SELECT id FROM passages WHERE document = ?)", (number,))
    db.execute("DELETE FROM passages WHERE document = ?", (number,))
    db.execute("DELETE FROM documents WHERE id = ?", (number,))


def _insert(db: sqlite3.Connection, tenant: str, facts: DocumentFacts) -> None:
    document, size = facts.document, len(facts.passages)
    terms, spread = blob(facts.terms.ids, TERMS), blob(facts.spread, COUNTS)
    whole = (blob(facts.centroid, HALVES), terms, blob(facts.terms.counts, COUNTS), spread) if size > 1 else (b"",) * 4
    number = db.execute(
        "INSERT INTO documents (tenant, document, point, revision, title, metadata, size, length, centroid, terms,"
        " counts, spread) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            tenant,
            document.id,
            facts.point,
            document.revision,
            document.title,
            json.dumps(document.metadata),
            size,
            facts.terms.length,
            *whole,
        ),
    ).lastrowid
    assert number is not None, "an INSERT has a row id"
    for passage in facts.passages:
        _insert_passage(db, tenant, number, passage, float(passage.vector @ facts.centroid))
    _count(db, tenant, terms, spread, 1)
    _add_to_tenant(db, tenant, 1, size, facts.terms.length)


def _insert_passage(db: sqlite3.Connection, tenant: str, document: int, passage: PassageFacts, towards: float) -> None:
    terms = passage.terms
    number = db.execute(
        "INSERT INTO passages (point, tenant, document, length, towards, vector, terms, counts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            passage.point,
            tenant,
            document,
            terms.length,
            towards,
            blob(passage.vector, HALVES),
            blob(terms.ids, TERMS),
            blob(terms.counts, COUNTS),
        ),
    ).lastrowid
    db.execute("INSERT INTO segments VALUES (?, ?)", (number, blob(to_int8(passage.segments), BYTES)))
    db.execute("INSERT INTO chunks VALUES (?, ?)", (number, msgspec.msgpack.encode(passage.chunk)))


def _count(db: sqlite3.Connection, tenant: str, terms: bytes, spread: bytes, sign: int) -> None:
    """Add a document's terms to the tenant's, or take them away."""
    rows: Sequence[tuple[int, int]] = list(
        zip(np.frombuffer(terms, TERMS).tolist(), np.frombuffer(spread, COUNTS).tolist(), strict=True)
    )
    db.executemany(
        "INSERT INTO terms VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET documents = documents + excluded.documents, passages = passages + excluded.passages",
        ((tenant, term, sign, sign * passages) for term, passages in rows),
    )
    if sign < 0:
        db.executemany(
            "DELETE FROM terms WHERE tenant = ? AND term = ? AND documents = 0", ((tenant, term) for term, _ in rows)
        )


def _add_to_tenant(db: sqlite3.Connection, tenant: str, documents: int, passages: int, words: int) -> None:
    db.execute(
        "INSERT INTO tenants VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET documents = documents + excluded.documents,"
        " passages = passages + excluded.passages, words = words + excluded.words",
        (tenant, documents, passages, words),
    )
