"""Tenants and filters through the whole of retrieve: engine, statistics, scores."""

from pathlib import Path

from fake_encoder import FakeEncoder
from libraries import ask, document, library, open_index

from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.find import Finder
from services.retrieve.domain.courtesy import Courtesy
from services.retrieve.domain.ports import Level, Scope, WeightedQuery
from shared.encoder import Floats

QUESTION = "barat delon fimik"


async def test_a_tenant_finds_its_own_alone(tmp_path: Path) -> None:
    async with open_index(tmp_path) as search:
        await search.indexer.put("acme", document("same", "the fee is barat", "second delon"))
        await search.indexer.put("globex", document("same", "the fee is sovat", tenant="globex"))
        assert {p.text for p in await ask(search, "fee", tenant="acme")} == {"the fee is barat", "second delon"}
        assert {p.text for p in await ask(search, "fee", tenant="globex")} == {"the fee is sovat"}
        assert await ask(search, "fee", tenant="nobody") == []
        for name in ("same", "acme", "*"):
            assert await ask(search, "fee", tenant="nobody", filters={"document": name}) == []
        for key in ("tenant", "owner", "level", "facets"):
            assert await ask(search, "fee", tenant="globex", filters={key: "acme"}) == []


async def test_the_documents_of_others_do_not_change_a_score(tmp_path: Path) -> None:
    mine = library(1, [5, 1, 8])
    async with open_index(tmp_path) as search:
        await search.indexer.put_all("acme", mine)
        before = await ask(search, QUESTION)
        await search.indexer.put_all("globex", library(2, [9, 30, 1, 4], tenant="globex"))
        assert await ask(search, QUESTION) == before
        await search.indexer.remove("globex", "d1")
        assert await ask(search, QUESTION) == before


async def test_an_engine_that_names_foreign_points_gives_nothing_away(tmp_path: Path) -> None:
    """The second lock on the same door: statistics pass over what is not the tenant's."""

    class Leaky(Edge):
        async def nearest(self, tenant: str, vector: Floats, scope: Scope, level: Level, limit: int) -> list[int]:
            return await super().nearest("globex", vector, Scope(), level, limit)

        async def matching(
            self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int
        ) -> list[int]:
            return await super().matching("globex", query, Scope(), level, limit)

    async with open_index(tmp_path) as search:
        await search.indexer.put_all("globex", library(1, [6, 1, 9], tenant="globex"))
        await search.indexer.put("acme", document("mine", QUESTION))
    leaky = Leaky(tmp_path / "edge")
    await leaky.open()
    finder = Finder(FakeEncoder(), search.statistics.view, leaky, leaky, Courtesy())
    assert await finder.find("globex", QUESTION, {}, 30) != []
    assert await finder.find("acme", QUESTION, {}, 30) == []
    await finder.close()
    await leaky.close()


async def test_filters_choose_documents_by_id_and_by_metadata(tmp_path: Path) -> None:
    plans = {"a": ("gold", "2024"), "b": ("gold", "2025"), "c": ("silver", "2025")}
    async with open_index(tmp_path) as search:
        for name, (plan, year) in plans.items():
            await search.indexer.put("acme", document(name, "the fee", "more about the fee", plan=plan, year=year))

        async def found(**filters: str | list[str]) -> set[str]:
            return {passage.document for passage in await ask(search, "fee", filters=filters)}

        assert await found() == {"a", "b", "c"}
        assert await found(plan="gold") == {"a", "b"}
        assert await found(plan=["gold", "silver"], year="2025") == {"b", "c"}
        assert await found(document="c") == {"c"}
        assert await found(document=["a", "c"], plan="gold") == {"a"}
        assert await found(plan="gold\x1f2024") == set()
        assert await found(plan=[]) == set()
        assert await found(document=[]) == set()
        assert await found(none_such="x") == set()
        assert {p.metadata["year"] for p in await ask(search, "fee", filters={"plan": "silver"})} == {"2025"}


async def test_new_metadata_is_a_new_revision(tmp_path: Path) -> None:
    async with open_index(tmp_path) as search:
        await search.indexer.put("acme", document("a", "the fee", plan="gold"))
        await search.indexer.put("acme", document("a", "the fee", plan="silver", revision="2"))
        assert await ask(search, "fee", filters={"plan": "gold"}) == []
        assert [p.document for p in await ask(search, "fee", filters={"plan": "silver"})] == ["a"]
