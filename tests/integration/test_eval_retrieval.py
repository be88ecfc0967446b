"""`penstock eval retrieval` on a set of a few lines, with the real encoder and index."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from engines import opensearch_server
from rich.console import Console
from servers import free_port

from client.eval.report import Report
from client.eval.retrieval import run

PASSAGES = {
    "fees-1": ("fees", "The annual fee of the gold card is 95 dollars, due in January."),
    "fees-2": ("fees", "A late payment costs 30 dollars for each month that has begun."),
    "leave-1": ("leave", "Employees may carry over five days of unused leave to the following year."),
    "leave-2": ("leave", "Sick leave of more than three days needs a doctor's certificate."),
    "lone": ("", "The library closes at eight in the evening on weekdays."),
}
QUESTIONS = {
    "q1": ("What is the yearly price of the gold card?", "fees-1"),
    "q2": ("How many vacation days can I take into next year?", "leave-1"),
    "q3": ("When do I have to show a medical certificate?", "leave-2"),
    "q4": ("until when is the library open", "lone"),
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    corpus = [
        {"_id": name, "text": text} | ({"document": document} if document else {})
        for name, (document, text) in PASSAGES.items()
    ]
    queries = [{"_id": name, "text": text} for name, (text, _) in QUESTIONS.items()]
    judged = ["query-id\tcorpus-id\tscore", *(f"{name}\t{found}\t1" for name, (_, found) in QUESTIONS.items())]
    paths = {"corpus": tmp_path / "c.jsonl", "queries": tmp_path / "q.jsonl", "qrels": tmp_path / "r.tsv"}
    paths["corpus"].write_text("\n".join(map(json.dumps, corpus)))
    paths["queries"].write_text("\n".join(map(json.dumps, queries)))
    paths["qrels"].write_text("\n".join(judged))
    return paths


def test_with_and_without_rerank(files: dict[str, Path]) -> None:
    with_rerank, without = (measure(files, rerank=rerank) for rerank in (True, False))
    for report in (with_rerank, without):
        assert (report.passages, report.documents, report.queries) == (5, 3, 4)
        assert report.mrr_at_10 == report.ndcg_at_10 == report.recall_at_5 == 1.0
        assert report.passages_per_s > 0
        assert 0 < report.query_p50_ms <= report.query_p95_ms
    assert with_rerank.rerank_100_p50_ms is not None
    assert without.rerank_100_p50_ms is None


def test_a_limit_asks_fewer(files: dict[str, Path]) -> None:
    assert measure(files, limit=2).queries == 2


def test_the_command_ends_with_a_line_of_json_and_leaves_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    done = command(files, tmp_path)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    wanted = "ndcg_at_10 recall_at_5 recall_at_10 mrr_at_10 passages_per_s query_p50_ms query_p95_ms"
    assert set(wanted.split()) <= last.keys()
    assert last["ndcg_at_10"] == 1.0
    assert list((tmp_path / "temp").iterdir()) == []


def test_engines_are_compared_and_their_servers_left_as_they_were(files: dict[str, Path], tmp_path: Path) -> None:
    done = command(files, tmp_path, "--engine=edge", "--engine=qdrant", PENSTOCK_RETRIEVE_QDRANT_URL=":memory:")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert [(report["vectors"], report["words"]) for report in last["reports"]] == [
        ("edge", "edge"),
        ("qdrant", "qdrant"),
    ]
    assert last["ndcg_at_10_apart"] == 0.0


@pytest.mark.opensearch
def test_opensearch_finds_as_well_and_keeps_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    with opensearch_server(tmp_path) as url:
        done = command(files, tmp_path, "--engine=opensearch", PENSTOCK_RETRIEVE_OPENSEARCH_URL=url)
        assert done.returncode == 0, done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        assert (last["vectors"], last["words"], last["ndcg_at_10"]) == ("edge", "opensearch", 1.0)
        for left in ("_alias/penstock-eval-*", "_index_template/penstock-eval-*"):
            assert httpx.get(f"{url}/{left}").json() in ({}, {"index_templates": []})


def test_a_server_that_is_away_is_one_line_and_exit_code_three(files: dict[str, Path], tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    done = command(files, tmp_path, "--engine=opensearch", PENSTOCK_RETRIEVE_OPENSEARCH_URL=away)
    assert done.returncode == 3
    assert f"penstock: OpenSearch at {away} does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_malformed_file_is_one_line_and_exit_code_two(files: dict[str, Path], tmp_path: Path) -> None:
    files["corpus"].write_text('{"_id": "1", "text": "a"}\n{"_id": "2", "txt": "b"}\n')
    done = command(files, tmp_path)
    assert done.returncode == 2
    assert "c.jsonl, line 2: not a passage: Object missing required field `text`" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def measure(files: dict[str, Path], limit: int | None = None, rerank: bool = False) -> Report:
    corpus, queries, qrels = files["corpus"], files["queries"], files["qrels"]
    return run(corpus, queries, qrels, limit, rerank, console=Console(quiet=True))


def command(files: dict[str, Path], folder: Path, *more: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    (folder / "temp").mkdir()
    options = [f"--{name}={path}" for name, path in files.items()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")} | {"COLUMNS": "200"}
    return subprocess.run(
        [Path(sys.executable).with_name("penstock"), "eval", "retrieval", *options, *more],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment | {"TMPDIR": str(folder / "temp")} | settings,
    )
