"""Engines take each other's place: filled beside one that serves, and with the same answers as any other mix."""

import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from engines import Opens, asked, delete_all, entry, found, opens, opensearch_server, point
from fake_encoder import FakeEncoder
from libraries import ask, library
from msgspec.structs import replace

from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.opensearch import OpenSearch
from services.retrieve.adapters.opensearch_shape import ANALYSER
from services.retrieve.adapters.search import Search, opened
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain.ports import Level, Scope, facet
from services.retrieve.domain.terms import terms

REAL_OPENSEARCH = pytest.param("opensearch", marks=pytest.mark.opensearch)
KINDS = ["edge", "qdrant-local", "qdrant", REAL_OPENSEARCH]
EACH = pytest.mark.parametrize("opening", KINDS, indirect=True)
LIBRARY_TEXTS = Path(__file__).parents[2] / "samples" / "library"

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


@pytest.fixture(scope="session")
def opensearch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opensearch_server(tmp_path_factory.mktemp("opensearch")) as url:
        yield url


@pytest.fixture
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opens]:
    with opens(request.param, tmp_path, lambda: str(request.getfixturevalue("opensearch_url"))) as how:
        yield how


@EACH
async def test_what_is_filled_is_seen_once_it_serves_and_what_was_there_before_is_gone(opening: Opens) -> None:
    serving, filled = opening(), opening("-2")
    assert await serving.open()
    await serving.replace("acme", entry("old", point(1, "common rain")))
    await filled.begin()
    await filled.fill("acme", [entry("a", point(2, "common")), entry("b", point(3, "common sun"))])
    await filled.replace("acme", entry("a", point(4, "common")))
    await filled.remove("acme", "b")
    assert await found(serving, "acme") == {1}
    await filled.serve()
    assert await found(filled, "acme") == {4}
    await filled.replace("acme", entry("c", point(5, "common")))
    if not isinstance(serving, Edge):  # its folder is chosen by who opens it
        assert await found(serving, "acme") == {4, 5}  # another process, by the same name
    await serving.close()


@EACH
async def test_an_attempt_that_broke_off_is_no_hindrance_to_the_next(opening: Opens) -> None:
    serving, broken, filled = opening(), opening("-2"), opening("-3")
    await serving.open()
    await serving.replace("acme", entry("a", point(1, "common")))
    await broken.begin()
    await broken.fill("acme", [entry("a", point(1, "common"))])
    await filled.begin()
    await filled.fill("acme", [entry("a", point(2, "common"))])
    await filled.serve()
    assert await found(filled, "acme") == {2}
    await filled.close()


@EACH
async def test_a_discarded_attempt_leaves_those_that_serve_alone(opening: Opens) -> None:
    serving, filled = opening(), opening("-2")
    await serving.open()
    await serving.replace("acme", entry("a", point(1, "common")))
    await filled.begin()
    await filled.fill("acme", [entry("b", point(2, "common"))])
    await filled.discard()
    assert await found(serving, "acme") == {1}
    await serving.discard()
    await serving.close()


@asynccontextmanager
async def searching(opening: Opens, folder: Path) -> AsyncIterator[Search]:
    """Both searches by one engine; OpenSearch has words only, so Edge stands by for vectors."""
    words = opening()
    vectors = Edge(folder / "beside") if isinstance(words, OpenSearch) else words
    async with opened(FakeEncoder(), Statistics(folder / "statistics.sqlite"), vectors, words) as search:
        yield search


async def lives(search: Search) -> None:
    """Documents of two tenants come, change and go."""
    documents = [
        replace(document, metadata={"year": str(2020 + n % 2), "kind": "memo"})
        for n, document in enumerate(library(3, [4, 1, 9, 2, 6]))
    ]
    await search.indexer.put_all("acme", library(8, [3, 3, 1, 2, 5]))  # of the same names, all of it replaced
    await search.indexer.put_all("acme", [replace(document, revision="2") for document in documents])
    await search.indexer.put("acme", replace(documents[1], revision="", chunks=[]))
    await search.indexer.remove("acme", "d3")
    await search.indexer.put_all("globex", library(4, [7, 1], tenant="globex"))


QUESTIONS = ["barat delon fimik", "kusov", "Title of d2 lalon", "nothing of the kind", "barat barat gotup metup"]
FILTERS: list[dict[str, str | list[str]]] = [
    {},
    {"year": "2020"},
    {"year": ["2020", "2021"], "kind": "memo"},
    {"document": ["d2", "d3", "d9"]},
    {"document": "d2", "year": "2021"},
    {"kind": []},
]


async def answers(search: Search) -> list[list[tuple[str, float, float, float]]]:
    asked_for = [
        (tenant, text, filters) for tenant in ("acme", "globex", "nobody") for text in QUESTIONS for filters in FILTERS
    ]
    return [
        [
            (p.chunk, round(p.score, 5), round(p.evidence.words, 5), round(p.evidence.vectors, 5))
            for p in await ask(search, text, tenant=tenant, filters=filters)
        ]
        for tenant, text, filters in asked_for
    ]


@EACH
async def test_every_engine_gives_the_same_passages_scores_and_evidence(opening: Opens, tmp_path: Path) -> None:
    """All passages are candidates here: filters, tenants, changes and removals, and the scores of both kinds."""
    async with searching(opening, tmp_path / "one") as search:
        await lives(search)
        given = await answers(search)
    edge = Edge(tmp_path / "two" / "edge")
    async with opened(FakeEncoder(), Statistics(tmp_path / "two" / "statistics.sqlite"), edge, edge) as search:
        await lives(search)
        expected = await answers(search)
    assert given == expected
    assert sum(map(len, given)) > 200


@pytest.fixture
async def opensearch(opensearch_url: str) -> AsyncIterator[tuple[str, str]]:
    """The URL and a name of which nothing is left at the end."""
    name = f"test-{uuid4().hex[:12]}"
    yield opensearch_url, name
    delete_all(opensearch_url, name)


ODD = "Größe_x ÉTÉ e-mail E-4711 don’t 3.5% naïve CO2 x² 契約 हिन्दी the of NOT generously skies dying news"


@pytest.mark.opensearch
@pytest.mark.parametrize("text", [ODD, *(p.read_text("utf-8") for p in sorted(LIBRARY_TEXTS.glob("*.md")))])
async def test_opensearch_cuts_and_stems_as_we_do(opensearch: tuple[str, str], text: str) -> None:
    url, name = opensearch
    engine = OpenSearch(url, name)
    await engine.open()
    await engine.close()
    lines = text.splitlines()
    tokens = on_server(f"{url}/{name}/_analyze", {"analyzer": ANALYSER, "text": lines})["tokens"]
    given = [zlib.crc32(token["token"].encode()) for token in tokens]
    expected = [term for line in lines for term in terms(line)]
    other = sum(one != another for one, another in zip(given, expected, strict=True))
    assert other <= 0.01 * len(expected)  # Lucene has an older edition of the stemmer: "organized" is "organ" there
    assert text is not ODD or other == 0


def on_server(url: str, body: dict[str, object] | None = None) -> dict[str, Any]:
    """Ask without the adapter; the answer."""
    answer = httpx.request("POST" if body else "GET", url, json=body).json()
    assert isinstance(answer, dict)
    return answer


@pytest.mark.opensearch
async def test_opensearch_begins_a_new_index_by_size_and_changes_reach_the_old_ones(
    opensearch: tuple[str, str],
) -> None:
    url, name = opensearch
    engine = OpenSearch(url, name, roll_at="1b")
    await engine.open()
    await engine.replace(
        "acme", entry("a", point(1, "common rain"), point(2, "common"), facets=[facet("kind", "memo")])
    )
    await engine.replace("acme", entry("b", point(3, "common")))
    await engine.roll_over()
    await engine.replace("acme", entry("a", point(1, "common snow"), facets=[facet("kind", "note")]))
    await engine.replace("acme", entry("c", point(4, "common")))
    indexes = on_server(f"{url}/_alias/{name}")
    assert sorted(indexes) == [f"{name}-1-000001", f"{name}-1-000002"]
    assert await found(engine, "acme") == {1, 3, 4}
    assert await engine.matching("acme", asked("rain"), Scope(), Level.PASSAGE, 10) == []
    assert await found(engine, "acme", scope=Scope(facets=((facet("kind", "note"),),))) == {1}
    await engine.remove("acme", "b")
    assert await found(engine, "acme") == {1, 4}
    shape = on_server(f"{url}/{name}-1-000002/_mapping")[f"{name}-1-000002"]["mappings"]
    assert shape["dynamic"] == "strict"
    again = OpenSearch(url, name)
    await again.begin()
    await again.fill("acme", [entry("a", point(9, "common"))])
    await again.serve()
    assert list(on_server(f"{url}/_alias/{name}")) == [f"{name}-2-000001"]
    for one in (engine, again):
        assert await found(one, "acme") == {9}
        await one.close()
