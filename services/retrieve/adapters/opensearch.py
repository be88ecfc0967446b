"""An OpenSearch server: words only, by our analyser and its BM25.

One alias `<name>` for all tenants; behind it indexes `<name>-<generation>-000001`, `-000002`, …, a new one whenever the
newest has grown to `roll_at`. Their shape comes from an index template. A document's new edition is written to the
newest index and its earlier ones are deleted in all of them.
The two levels are two fields, since BM25's mean length and frequencies are a field's. The frequencies are counted over
all tenants; that moves candidates only, scores come from the tenant's own statistics.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any
from uuid import uuid4

from opensearchpy import AsyncOpenSearch
from opensearchpy.exceptions import NotFoundError, RequestError
from opensearchpy.helpers import async_streaming_bulk

from services.retrieve.adapters.address import address
from services.retrieve.adapters.opensearch_faults import Faults, why
from services.retrieve.adapters.opensearch_shape import FIELDS, LONGEST_WORD, Json, template
from services.retrieve.domain.ports import Entry, Level, Scope, WeightedQuery
from shared.settings import SettingsError
from shared.tls import NO_TLS, Tls

MOST_TOKENS = 1000
"""Of a query; a search may have 1,024 clauses."""
TIMEOUT_S = 30.0
ROLL_AT = "30gb"
LOOK_EVERY = 16_000_000
"""Characters that are written between two looks at the size of the newest index."""
_BULK_BYTES = 10_000_000
_TRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 6, 0.5, 8.0  # of a write while the server has too much to do
_WORD = re.compile(r"\w+")


class OpenSearch:
    """Serves the Protocols Words and Successor. Every method raises Retryable where the server does not answer, is too
    busy or turns the credentials down, and Poison where it refuses a request for good."""

    def __init__(
        self, url: str, name: str, roll_at: str = ROLL_AT, timeout_s: float = TIMEOUT_S, *, tls: Tls = NO_TLS
    ) -> None:
        self._name = name
        self._alias = name  # what this engine reads and writes: `<name>-<generation>` until it serves
        self._roll_at = roll_at
        self._written = 0
        self._faults = Faults(address(url), name, timeout_s)
        secure: dict[str, Any] = {"ssl_context": tls.context()} if url.startswith("https:") else {}
        self._client = AsyncOpenSearch(hosts=[url], timeout=timeout_s, max_retries=1, **secure)

    async def open(self) -> bool:
        """Create the index where there is none. Raises SettingsError where it cannot have its name, or the server is
        another kind or too old."""
        with self._faults.named():
            await self._prepare()
            created = not await self._client.indices.exists_alias(name=self._name)
            if created:
                await self._create(1, self._name)
            else:
                await self.roll_over()
            return created

    async def begin(self) -> None:
        """Work on a new generation, empty and beside the one that serves. What an earlier attempt left is deleted."""
        with self._faults.named():
            await self._prepare()
            serving = await self._behind(self._name)
            generations = await self._generations()
            for index in generations.keys() - set(serving):
                await self._client.indices.delete(index=index)
            newest = max(generations.values(), default=0) + 1
            self._alias = f"{self._name}-{newest}"
            await self._create(newest, self._alias)

    async def replace(self, tenant: str, *entries: Entry) -> None:
        """The new edition becomes findable, then the earlier ones go: no moment without a document. Refreshing takes as
        long for one as for many."""
        edition = uuid4().hex
        with self._faults.named():
            await self._write(tenant, entries, edition)
            await self._delete(tenant, [entry.document for entry in entries], but=[edition])

    async def fill(self, tenant: str, entries: Sequence[Entry]) -> None:
        with self._faults.named():
            await self._write(tenant, entries, uuid4().hex)

    async def remove(self, tenant: str, document: str) -> None:
        with self._faults.named():
            await self._delete(tenant, [document], but=[])

    async def matching(self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int) -> list[int]:
        text = _bounded(query.text)
        if not len(query.terms) or not text:
            return []
        sought = {"bool": {"filter": _filter(tenant, scope), "must": [{"match": {FIELDS[level]: text}}]}}
        with self._faults.named():
            found = await self._client.search(
                index=self._alias,
                body={"query": sought, "size": limit, "_source": False, "track_total_hits": False},
                params={
                    "routing": _routing(tenant),
                    "allow_partial_search_results": "false",
                    "search_type": "dfs_query_then_fetch",  # frequencies of all indexes, however small the newest is
                },
            )
        # A document that is being replaced may be found in two indexes for a moment.
        return list(dict.fromkeys(int(hit["_id"]) for hit in found["hits"]["hits"]))

    async def roll_over(self) -> None:
        """Let the server begin a new index where the newest has grown to `roll_at`."""
        self._written = 0
        with self._faults.named():
            await self._client.indices.rollover(alias=self._alias, body={"conditions": {"max_size": self._roll_at}})

    async def serve(self) -> None:
        """In one action the new generation takes the name, and the earlier one is deleted."""
        with self._faults.named():
            new, old = sorted(await self._behind(self._alias)), await self._behind(self._name)
            await self._client.indices.refresh(index=self._alias)
            actions: list[Json] = [{"remove_index": {"index": index}} for index in old]
            for index in new:
                actions.append({"remove": {"index": index, "alias": self._alias}})
                actions.append({"add": {"index": index, "alias": self._name, "is_write_index": index == new[-1]}})
            await self._client.indices.update_aliases(body={"actions": actions})
            self._alias = self._name

    async def discard(self) -> None:
        """Delete what this engine works on, for good."""
        with self._faults.named():
            for index in await self._behind(self._alias):
                await self._client.indices.delete(index=index)
            if self._alias == self._name:
                with suppress(NotFoundError):
                    await self._client.indices.delete_index_template(name=self._name)

    async def close(self) -> None:
        await self._client.close()

    async def _prepare(self) -> None:
        self._faults.check(await self._client.info())
        await self._client.indices.put_index_template(name=self._name, body=template(self._name))

    async def _create(self, generation: int, alias: str) -> None:
        aliases = {alias: {"is_write_index": True}}
        try:
            await self._client.indices.create(index=f"{self._name}-{generation}-000001", body={"aliases": aliases})
        except RequestError as error:
            at = self._faults.address
            raise SettingsError(
                f"PENSTOCK_RETRIEVE_INDEX_NAME: {self._name!r} cannot be created at {at}: {why(error)}"
            ) from None

    async def _behind(self, alias: str) -> list[str]:
        try:
            return list(await self._client.indices.get_alias(name=alias))
        except NotFoundError:
            return []

    async def _generations(self) -> dict[str, int]:
        """The generation of each index of ours."""
        ours = re.compile(rf"{re.escape(self._name)}-(\d+)(-\d{{6}})?")
        found = await self._client.indices.get_alias(index=f"{self._name}-*")
        return {index: int(match[1]) for index in found if (match := ours.fullmatch(index))}

    async def _write(self, tenant: str, entries: Sequence[Entry], edition: str) -> None:
        """Write points as one edition; where the server is too busy for some of them, those again after a pause.

        Raises Poison with the name of a document that the server does not take.
        """
        written = async_streaming_bulk(
            self._client,
            _actions(tenant, entries, edition),
            max_chunk_bytes=_BULK_BYTES,
            max_retries=_TRIES,
            initial_backoff=_FIRST_PAUSE_S,
            max_backoff=_LONGEST_PAUSE_S,
            raise_on_error=False,
            yield_ok=False,
            index=self._alias,
            params={"require_alias": "true"},  # no request makes an index with a guessed mapping
        )
        owners = {str(point.id): entry.document for entry in entries for point in entry.points}
        async for _, answer in written:
            failed = answer["index"]
            said = f"document {owners[failed['_id']]!r} of tenant {tenant!r}: {failed['error']['reason']}"
            raise self._faults.refused(failed["status"], said)
        self._written += sum(len(point.text) for entry in entries for point in entry.points)
        if self._written > LOOK_EVERY:
            await self.roll_over()

    async def _delete(self, tenant: str, documents: list[str], but: list[str]) -> None:
        """Delete documents' points except those of an edition. A query sees what was refreshed, hence the refresh
        before; where somebody else deletes the same points meanwhile, they are gone as well."""
        await self._client.indices.refresh(index=self._alias)
        stale = {
            "filter": [*_tenant(tenant), {"terms": {"document": documents}}],
            "must_not": [{"terms": {"edition": but}}],
        }
        await self._client.delete_by_query(
            index=self._alias,
            body={"query": {"bool": stale}},
            params={"routing": _routing(tenant), "conflicts": "proceed", "refresh": "true"},
        )


def _actions(tenant: str, entries: Sequence[Entry], edition: str) -> Iterator[Json]:
    routing = _routing(tenant)
    for entry in entries:
        for point in entry.points:
            yield {
                "_id": str(point.id),
                "_routing": routing,
                "tenant": tenant,
                "document": entry.document,
                "facets": list(entry.facets),
                "edition": edition,
                FIELDS[point.level]: point.text,
            }


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
    """The distinct words of a query, in their order: a thousand at most, as long as the index has them."""
    words = dict.fromkeys(word[:LONGEST_WORD] for word in _WORD.findall(text.lower()))
    return " ".join(list(words)[:MOST_TOKENS])
