"""What every search engine has to do: the same behaviour on Edge, Qdrant and OpenSearch."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from _pytest.mark import ParameterSet
from engines import Engine, Opens, asked, axis, entry, found, opens, opensearch_server, point

from contracts.documents import Chunk, Document
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.engines import open_search
from services.retrieve.adapters.opensearch import OpenSearch
from services.retrieve.adapters.qdrant import Qdrant
from services.retrieve.config import RetrieveSettings
from services.retrieve.domain.ports import Level, Scope, facet
from shared.errors import Retryable
from shared.settings import SettingsError

Kind = str | ParameterSet

REAL_OPENSEARCH = pytest.param("opensearch", marks=pytest.mark.opensearch)
BY_VECTORS: list[Kind] = ["edge", "qdrant-local", "qdrant"]
LASTING: list[Kind] = ["edge", "qdrant", REAL_OPENSEARCH]
ALL: list[Kind] = [*BY_VECTORS, REAL_OPENSEARCH]
ODD_TENANTS = [
    "acme",
    "Acme",
    "acme,globex",
    "acme ",
    "*",
    "acme*",
    "a c",
    "acme\x1fglobex",
    'x" OR "y',
    "ärztin",
    "_all",
]

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


@pytest.fixture(scope="session")
def opensearch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opensearch_server(tmp_path_factory.mktemp("opensearch")) as url:
        yield url


@pytest.fixture
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opens]:
    def server() -> str:
        return str(request.getfixturevalue("opensearch_url"))

    with opens(request.param, tmp_path, server) as how:
        yield how


@pytest.fixture
async def engine(opening: Opens) -> AsyncIterator[Engine]:
    engine = opening()
    assert await engine.open()
    yield engine
    await engine.close()


def on(kinds: Sequence[Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("opening", kinds, indirect=True)


@on(ALL)
async def test_what_was_indexed_is_found_at_once(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common rain"), point(2, "common sun")))
    assert await found(engine, "acme") == {1, 2}


@on(ALL)
async def test_an_empty_engine_finds_nothing(engine: Engine) -> None:
    assert await found(engine, "acme") == set()


@on(ALL)
async def test_a_new_revision_takes_the_place_of_the_old(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common rain"), point(2, "common"), point(3, "common")))
    await engine.replace("acme", entry("b", point(9, "common")))
    await engine.replace("acme", entry("a", point(1, "common snow"), point(4, "common")))
    assert await found(engine, "acme") == {1, 4, 9}
    assert await engine.matching("acme", asked("rain"), Scope(), Level.PASSAGE, 10) == []
    assert await engine.matching("acme", asked("snow"), Scope(), Level.PASSAGE, 10) == [1]


@on(ALL)
async def test_several_documents_take_the_place_of_theirs_at_once(engine: Engine) -> None:
    await engine.replace(
        "acme", entry("a", point(1, "common rain"), point(2, "common")), entry("b", point(3, "common"))
    )
    await engine.replace("acme", entry("c", point(4, "common")))
    await engine.replace("globex", entry("a", point(8, "common")))
    await engine.replace("acme", entry("a", point(1, "common snow")), entry("b", point(5, "common")))
    assert await found(engine, "acme") == {1, 4, 5}
    assert await found(engine, "globex") == {8}
    assert await engine.matching("acme", asked("rain"), Scope(), Level.PASSAGE, 10) == []


@on(ALL)
async def test_replacing_twice_changes_nothing(engine: Engine) -> None:
    same = entry("a", point(1, "common rain"), point(2, "common common"), facets=[facet("kind", "memo")])
    for _ in range(3):
        await engine.replace("acme", same)
    assert await engine.matching("acme", asked("common"), Scope(), Level.PASSAGE, 10) == [2, 1]
    assert await found(engine, "acme", scope=Scope(facets=((facet("kind", "memo"),),))) == {1, 2}


@on(ALL)
async def test_removed_is_gone_and_removing_what_is_not_there_is_no_fault(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common"), point(2, "common whole", level=Level.DOCUMENT)))
    await engine.replace("acme", entry("b", point(3, "common")))
    for document in ("a", "a", "never there"):
        await engine.remove("acme", document)
    assert await found(engine, "acme") == {3}
    assert await found(engine, "acme", level=Level.DOCUMENT) == set()


@on(BY_VECTORS)
async def test_nearest_come_first(engine: Edge | Qdrant) -> None:
    vectors = {1: axis(0.2, 1), 2: axis(1, 0.1), 3: axis(1, 1), 4: axis(-1)}
    await engine.replace("acme", entry("a", *(point(id, "common", vector) for id, vector in vectors.items())))
    assert await engine.nearest("acme", axis(1), Scope(), Level.PASSAGE, 10) == [2, 3, 1, 4]
    assert await engine.nearest("acme", axis(1), Scope(), Level.PASSAGE, 2) == [2, 3]


@on(ALL)
async def test_more_of_the_words_come_first(engine: Engine) -> None:
    texts = {
        1: "the tenant pays the rent by bank transfer",
        2: "notice of termination is given three months before the rent falls due",
        3: "cooking rice takes water",
        4: "termination, termination of notice: notice",
    }
    await engine.replace("acme", entry("a", *(point(id, text) for id, text in texts.items())))
    query = asked("notice of termination")
    assert await engine.matching("acme", query, Scope(), Level.PASSAGE, 10) == [4, 2]
    assert await engine.matching("acme", query, Scope(), Level.PASSAGE, 1) == [4]


@on(ALL)
async def test_words_are_found_in_their_other_forms(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "Payments were DELAYED"), point(2, "nothing of the kind")))
    assert await engine.matching("acme", asked("delaying a payment"), Scope(), Level.PASSAGE, 10) == [1]


@on(ALL)
@pytest.mark.parametrize("text", ["", "the of and", "?!", "zebra"])
async def test_a_query_without_a_word_that_occurs_finds_nothing(engine: Engine, text: str) -> None:
    await engine.replace("acme", entry("a", point(1, "the rain of the year and more")))
    assert await engine.matching("acme", asked(text), Scope(), Level.PASSAGE, 10) == []


@on(ALL)
async def test_a_query_may_be_as_long_as_it_likes(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common")))
    for flood in (" ".join(f"w{n}" for n in range(5000)), "字" * 5000, "x" * 100_000, "a_b-c.d'e " * 3000):
        assert await engine.matching("acme", asked(f"common {flood}"), Scope(), Level.PASSAGE, 10) == [1]


@on(ALL)
async def test_levels_are_apart(engine: Engine) -> None:
    whole = point(3, "common", level=Level.DOCUMENT)
    await engine.replace("acme", entry("a", point(1, "common"), point(2, "common"), whole))
    assert await found(engine, "acme") == {1, 2}
    assert await found(engine, "acme", level=Level.DOCUMENT) == {3}


@on(ALL)
async def test_facets_and_documents_narrow_a_search(engine: Engine) -> None:
    kinds = {1: ("memo", "2023"), 2: ("memo", "2024"), 3: ("contract", "2024"), 4: ("note", "2024")}
    for id, (kind, year) in kinds.items():
        facets = [facet("kind", kind), facet("year", year)]
        await engine.replace("acme", entry(f"d{id}", point(id, "common"), facets=facets))
    memo_or_note = (facet("kind", "memo"), facet("kind", "note"))
    for scope, expected in (
        (Scope(), {1, 2, 3, 4}),
        (Scope(facets=(memo_or_note,)), {1, 2, 4}),
        (Scope(facets=(memo_or_note, (facet("year", "2024"),))), {2, 4}),
        (Scope(documents=("d1", "d3", "none such")), {1, 3}),
        (Scope(documents=("d1", "d3"), facets=((facet("year", "2024"),),)), {3}),
        (Scope(facets=((facet("kind", "2024"),),)), set()),
        (Scope(facets=((facet("kind", "mem"),),)), set()),
        (Scope(facets=((),)), set()),
    ):
        assert await found(engine, "acme", scope=scope) == expected, scope


@on(ALL)
async def test_tenants_with_the_same_names_of_documents_see_their_own_alone(engine: Engine) -> None:
    kind = facet("kind", "memo")
    for number, tenant in enumerate(ODD_TENANTS):
        await engine.replace(tenant, entry("same", point(number, "common secret"), facets=[kind]))
    for number, tenant in enumerate(ODD_TENANTS):
        for scope in (Scope(), Scope(documents=("same",)), Scope(facets=((kind,),))):
            assert await found(engine, tenant, scope=scope) == {number}, tenant
    await engine.remove("*", "same")
    await engine.remove("acme,globex", "same")
    await engine.remove("acme", "*")
    gone = {"*", "acme,globex"}
    seen = [await found(engine, tenant) for tenant in ODD_TENANTS]
    assert seen == [set() if tenant in gone else {number} for number, tenant in enumerate(ODD_TENANTS)]


@on(ALL)
async def test_nobody_sees_another_tenant(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common"), facets=[facet("kind", "memo")]))
    for tenant in ("globex", "", "ACME", "acme,globex", "*", "a*", "acm", "acme acme"):
        assert await found(engine, tenant) == set()


@on(ALL)
async def test_filters_that_name_another_tenant_do_not_reach_it(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common"), facets=[facet("tenant", "globex")]))
    await engine.replace("globex", entry("g", point(2, "common"), facets=[facet("tenant", "globex")]))
    assert await found(engine, "acme", scope=Scope(facets=((facet("tenant", "globex"),),))) == {1}
    assert await found(engine, "acme", scope=Scope(documents=("g", "globex/g", "*"))) == set()
    assert await found(engine, "acme", scope=Scope(facets=((facet("tenant", "acme"),),))) == set()


@on(ALL)
async def test_the_same_id_in_another_tenant_shows_nothing_to_the_first(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common rain")))
    await engine.replace("globex", entry("a", point(1, "common secret")))
    assert await engine.matching("acme", asked("secret"), Scope(), Level.PASSAGE, 10) == []
    assert await engine.matching("globex", asked("rain"), Scope(), Level.PASSAGE, 10) == []
    assert await found(engine, "globex") == {1}


@on(ALL)
async def test_ids_have_63_bits(engine: Engine) -> None:
    ids = {0, 1 << 53, (1 << 53) + 1, (1 << 63) - 1}
    await engine.replace("acme", entry("a", *(point(id, "common") for id in ids)))
    assert await found(engine, "acme") == ids


@on(ALL)
async def test_a_long_document_is_indexed_whole_and_limits_are_kept(engine: Engine) -> None:
    await engine.replace("acme", entry("a", *(point(id, "common") for id in range(300))))
    assert await found(engine, "acme", limit=1000) == set(range(300))
    assert len(await engine.matching("acme", asked("common"), Scope(), Level.PASSAGE, 7)) == 7
    await engine.replace("acme", entry("a", point(5, "common")))
    assert await found(engine, "acme") == {5}


@on(ALL)
async def test_unicode_in_every_place(engine: Engine) -> None:
    named, valued = "Überlassung №1 – 契約 🏠.pdf", facet("Rubrik/„Art“", "Straße, 'Größe' {x}")
    await engine.replace("bürg", entry(named, point(1, "common Mietvertrag für die Wohnung"), facets=[valued]))
    await engine.replace("bürg", entry("other", point(2, "common")))
    assert await found(engine, "bürg", scope=Scope(documents=(named,), facets=((valued,),))) == {1}
    assert await engine.matching("bürg", asked("FÜR wohnung"), Scope(), Level.PASSAGE, 10) == [1]
    await engine.remove("bürg", named)
    assert await found(engine, "bürg") == {2}


@on(ALL)
async def test_a_very_long_facet_does_no_harm(engine: Engine) -> None:
    await engine.replace("acme", entry("a", point(1, "common"), facets=[facet("note", "ü" * 40_000)]))
    assert await found(engine, "acme") == {1}


@on(LASTING)
async def test_data_stays_when_an_engine_is_opened_again(opening: Opens) -> None:
    first = opening()
    assert await first.open()
    await first.replace("acme", entry("a", point(1, "common"), point(2, "common"), facets=[facet("kind", "memo")]))
    await first.close()
    again = opening()
    assert not await again.open()
    assert await found(again, "acme", scope=Scope(facets=((facet("kind", "memo"),),))) == {1, 2}
    await again.remove("acme", "a")
    assert await found(again, "acme") == set()
    await again.close()


@pytest.mark.opensearch
async def test_words_of_opensearch_and_vectors_of_edge_find_together(opensearch_url: str, tmp_path: Path) -> None:
    name = f"test-{uuid4().hex[:12]}"
    settings = RetrieveSettings(words="opensearch", opensearch_url=opensearch_url, index_name=name)
    texts = {
        "lease": "The tenant may end the lease by giving three months' notice in writing.",
        "pets": "Keeping dogs and cats needs the landlord's written consent.",
        "heating": "The boiler is serviced every autumn; the error code E-4711 means low pressure.",
    }
    async with open_search(settings, tmp_path) as search:
        for id, text in texts.items():
            await search.indexer.put("acme", document("acme", id, text))
        await search.indexer.put("globex", document("globex", "code", "E-4711 is our door code."))

        async def first(question: str, **filters: str) -> str:
            return (await search.finder.find("acme", question, filters, 3))[0].document

        assert await first("E-4711") == "heating"
        assert await first("How do I terminate my rental contract?") == "lease"
        assert await first("Am I allowed to have a puppy?") == "pets"
        assert await first("E-4711", document="pets") == "pets"
        assert [p.document for p in await search.finder.find("globex", "error code E-4711", {}, 9)] == ["code"]
        await search.indexer.remove("acme", "heating")
        assert "heating" not in {p.document for p in await search.finder.find("acme", "E-4711", {}, 9)}
    on_server("delete", f"{opensearch_url}/{name}-1-000001")


def on_server(method: str, url: str) -> int:
    """Ask without the adapter; the status of the answer."""
    return httpx.request(method, url).status_code


def document(tenant: str, id: str, text: str) -> Document:
    return Document(id, tenant, id, f"{id}.txt", "r1", [Chunk(f"{id}#0", 0, text)])


@pytest.mark.opensearch
async def test_opensearch_refuses_a_name_that_something_else_has(opensearch_url: str) -> None:
    name = f"test-{uuid4().hex[:12]}"
    on_server("put", f"{opensearch_url}/{name}")
    engine = OpenSearch(opensearch_url, name)
    with pytest.raises(SettingsError, match=f"PENSTOCK_RETRIEVE_INDEX_NAME: '{name}' cannot be created"):
        await engine.open()
    await engine.close()
    on_server("delete", f"{opensearch_url}/{name}")


@pytest.mark.opensearch
async def test_opensearch_makes_no_index_by_guessing_where_ours_was_deleted(opensearch_url: str) -> None:
    name = f"test-{uuid4().hex[:12]}"
    engine = OpenSearch(opensearch_url, name)
    await engine.open()
    on_server("delete", f"{opensearch_url}/{name}-1-000001")
    with pytest.raises(Retryable, match="404"):
        await engine.replace("acme", entry("a", point(1, "common")))
    with pytest.raises(Retryable, match="404"):
        await engine.matching("acme", asked("common"), Scope(), Level.PASSAGE, 10)
    await engine.close()
    assert on_server("head", f"{opensearch_url}/{name}") == 404
