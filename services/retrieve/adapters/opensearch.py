"""An OpenSearch server: words only, by its own BM25 and its analyser for English.

One index for all tenants, reached through an alias. The index is `<name>-1`; everything goes through `<name>`, and a
bulk request asks for an alias, so that no request makes an index with a guessed mapping where ours was deleted.
The two levels are two fields, since BM25's mean length and frequencies are a field's. The frequencies are counted over
all tenants; that moves candidates only, scores come from the tenant's own statistics.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any
from uuid import uuid4

from opensearchpy import AsyncOpenSearch
from opensearchpy.exceptions import OpenSearchException, RequestError, TransportError
from opensearchpy.helpers import BulkIndexError, async_bulk

from services.retrieve.adapters.address import address
from services.retrieve.domain.ports import Entry, Level, Scope, WeightedQuery
from services.retrieve.domain.scoring import B, K
from shared.errors import Poison, Retryable
from shared.settings import SettingsError
from shared.tls import NO_TLS, Tls

Json = dict[str, object]

MOST_TOKENS = 1000
"""Of a query; a search may have 1,024 clauses."""
_TIMEOUT_S = 30
_BULK_BYTES = 10_000_000
_FIELDS = {Level.PASSAGE: "passage", Level.DOCUMENT: "whole"}
_URL = "PENSTOCK_RETRIEVE_OPENSEARCH_URL"
_WORD = re.compile(r"\w+")
_LONGEST_TOKEN = 255  # the standard tokenizer splits longer ones

_KEYWORD: Json = {"type": "keyword"}
_TEXT: Json = {"type": "text", "analyzer": "english", "similarity": "bm25", "index_options": "freqs"}
_SHAPE: Json = {
    "settings": {
        "index": {"auto_expand_replicas": "0-1"},
        "similarity": {"bm25": {"type": "BM25", "k1": K, "b": B}},
    },
    "mappings": {
        "dynamic": "strict",
        "_routing": {"required": True},
        "_source": {"excludes": list(_FIELDS.values())},  # passages are in the log of documents, once is enough
        "properties": {
            "tenant": _KEYWORD,
            "document": _KEYWORD,
            "facets": {"type": "keyword", "ignore_above": 8000},  # a longer one would fail the whole document
            "edition": _KEYWORD,
            **dict.fromkeys(_FIELDS.values(), _TEXT),
        },
    },
}


class OpenSearch:
    """Serves the Protocol Words. Every method raises Retryable where the server does not answer or turns the
    credentials down, and Poison where it refuses a request for good."""

    def __init__(self, url: str, name: str, *, tls: Tls = NO_TLS) -> None:
        self._address = address(url)
        self._name = name
        secure: dict[str, Any] = {"ssl_context": tls.context()} if url.startswith("https:") else {}
        self._client = AsyncOpenSearch(hosts=[url], timeout=_TIMEOUT_S, max_retries=1, **secure)

    async def open(self) -> bool:
        """Create the index where there is none. Raises SettingsError where it cannot have its name."""
        with self._asking():
            if await self._client.indices.exists_alias(name=self._name):
                return False
            try:
                await self._client.indices.create(index=f"{self._name}-1", body=_SHAPE | {"aliases": {self._name: {}}})
            except RequestError as error:
                raise SettingsError(
                    f"PENSTOCK_RETRIEVE_INDEX_NAME: {self._name!r} cannot be created at {self._address}: {_why(error)}"
                ) from None
            return True

    async def replace(self, tenant: str, entry: Entry) -> None:
        """The new edition becomes findable, then the earlier ones go: no moment without the document."""
        edition, routing = uuid4().hex, _routing(tenant)
        points: Iterator[Json] = (
            {
                "_id": str(point.id),
                "_routing": routing,
                "tenant": tenant,
                "document": entry.document,
                "facets": list(entry.facets),
                "edition": edition,
                _FIELDS[point.level]: point.text,
            }
            for point in entry.points
        )
        with self._asking():
            await async_bulk(
                self._client, points, max_chunk_bytes=_BULK_BYTES, index=self._name, params={"require_alias": "true"}
            )
            await self._delete(tenant, entry.document, but=[edition])

    async def remove(self, tenant: str, document: str) -> None:
        with self._asking():
            await self._delete(tenant, document, but=[])

    async def matching(self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int) -> list[int]:
        text = _bounded(query.text)
        if not len(query.terms) or not text:
            return []
        sought = {"bool": {"filter": _filter(tenant, scope), "must": [{"match": {_FIELDS[level]: text}}]}}
        with self._asking():
            found = await self._client.search(
                index=self._name,
                body={"query": sought, "size": limit, "_source": False, "track_total_hits": False},
                params={"routing": _routing(tenant), "allow_partial_search_results": "false"},
            )
        return [int(hit["_id"]) for hit in found["hits"]["hits"]]

    async def close(self) -> None:
        await self._client.close()

    async def _delete(self, tenant: str, document: str, but: list[str]) -> None:
        """Delete a document's points except those of an edition. A query sees what was refreshed, hence the refresh
        before; where somebody else deletes the same points meanwhile, they are gone as well."""
        await self._client.indices.refresh(index=self._name)
        stale = {
            "filter": [*_tenant(tenant), {"term": {"document": document}}],
            "must_not": [{"terms": {"edition": but}}],
        }
        await self._client.delete_by_query(
            index=self._name,
            body={"query": {"bool": stale}},
            params={"routing": _routing(tenant), "conflicts": "proceed", "refresh": "true"},
        )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors of the client as ours, in one line."""
        try:
            yield
        except BulkIndexError as error:
            first = next(iter(error.errors[0].values()))
            raise self._refused(first["status"], first["error"]["reason"]) from None
        except TransportError as error:
            if isinstance(error.status_code, int):
                raise self._refused(error.status_code, _why(error)) from None
            raise Retryable(
                f"OpenSearch at {self._address} does not answer ({_why(error)}); its address is {_URL}"
            ) from None
        except OpenSearchException as error:  # for example an answer that is no JSON
            raise Retryable(f"OpenSearch at {self._address} ({_URL}): {_line(str(error))}") from None

    def _refused(self, status: int, why: str) -> Retryable | Poison:
        if status in (401, 403):
            return Retryable(
                f"OpenSearch at {self._address} turns down user or password ({status}); they are part of {_URL}"
            )
        said = f"OpenSearch at {self._address} ({_URL}) answers {status} for index {self._name!r}: {_line(why)}"
        may_pass = status in (404, 408, 409, 429) or status >= 500
        return Retryable(said) if may_pass else Poison(said)


def _why(error: TransportError) -> str:
    """The reason that the server gives, where it gives one."""
    with suppress(IndexError, KeyError, TypeError):
        info: Any = error.info
        return _line(str(info["error"]["reason"]))
    return _line(str(error.error))


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def _routing(tenant: str) -> str:
    """A tenant's points share a shard. As a digest, since a comma in a routing would name two."""
    return blake2b(tenant.encode(), digest_size=8).hexdigest()


def _tenant(tenant: str) -> list[Json]:
    return [{"term": {"tenant": tenant}}]


def _filter(tenant: str, scope: Scope) -> list[Json]:
    conditions = _tenant(tenant)
    if scope.documents:
        conditions.append({"terms": {"document": list(scope.documents)}})
    for values in scope.facets:
        conditions.append({"terms": {"facets": list(values)}})
    return conditions


def _bounded(text: str) -> str:
    """The distinct words of a query, in their order, up to what becomes a thousand tokens."""
    kept, room = [], MOST_TOKENS
    for word in dict.fromkeys(_WORD.findall(text.lower())):
        # Scripts without spaces become a token a character.
        room -= 1 + len(word) // _LONGEST_TOKEN if word.isascii() else len(word)
        if room < 0:
            break
        kept.append(word)
    return " ".join(kept)
