"""`penstock eval reader`: which questions are asked when, what counts as right, and a small set from end to end."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from client.errors import UsageError
from client.eval.beir import CorpusRow, QueryRow
from client.eval.reader import Asked, plan, run, summarise
from contracts.item import Completion, Quote

FACTS = {
    "bridge": ("The Harrow Bridge was opened in 1931.", "When was the Harrow Bridge opened?", "1931"),
    "tower": ("The Lindow Tower is 212 metres high.", "How high is the Lindow Tower?", "212 metres"),
    "museum": ("The Quarry Museum was founded by Edith Marlowe.", "Who founded the Quarry Museum?", "Edith Marlowe"),
    "harbour": ("Salt and timber are shipped from Easton Harbour.", "What is shipped from Easton Harbour?", "timber"),
    "river": ("The River Tarn flows into Lake Ostrin.", "Into which lake does the River Tarn flow?", "Lake Ostrin"),
    "station": ("Dunmore Station has fourteen platforms.", "How many platforms has Dunmore Station?", "fourteen"),
}


def write(folder: Path, answers: bool = True) -> Path:
    folder.mkdir()
    corpus = [{"_id": name, "text": text} for name, (text, _, _) in FACTS.items()]
    queries = [
        {"_id": f"q-{name}", "text": question} | ({"answers": [answer]} if answers else {})
        for name, (_, question, answer) in FACTS.items()
    ]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "qrels.tsv").write_text("".join(f"q-{name}\t{name}\t1\n" for name in FACTS), encoding="utf-8")
    return folder


def beside(folder: Path) -> None:
    folder.mkdir()
    (folder / "queries.jsonl").write_text('{"_id": "o", "text": "Which enzyme splits lactose?"}', encoding="utf-8")
    (folder / "qrels.tsv").write_text("o\tx\t1\n", encoding="utf-8")


def asked(text: str, answers: list[str], sentences: list[str] | None = None, seconds: float = 0.01) -> Asked:
    quotes = [Quote(sentence, "d", "") for sentence in (sentences or [text])]
    refused = text == "The documents do not say."
    completion = Completion(text, "extractive", mode="refused" if refused else "extractive", quotes=quotes)
    return Asked(QueryRow("q", "?", answers), completion, seconds, seconds / 2)


def test_a_small_set_is_answered_and_other_subjects_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "facts")
    beside(tmp_path / "other")

    report = run(data, console=Console(quiet=True))

    assert report.questions == 6
    assert report.answer_rate == 1.0
    assert report.false_refusal_rate == 0.0
    assert (report.off_topic, report.off_topic_refused) == (1, 1.0)
    assert report.hard_off_topic == 2
    assert report.p50_ms >= report.read_p50_ms > 0


def test_hard_questions_are_those_whose_passages_lie_well_within_what_is_left_out() -> None:
    corpus = [CorpusRow(f"p{n}", "text") for n in range(900)]
    questions = [QueryRow(f"q{n}", "?") for n in range(900)]

    trial = plan(corpus, questions, {f"q{n}": {f"p{n}": 1} for n in range(900)}, [])

    assert {row.id for row in trial.early} | {row.id for row in trial.late} == {row.id for row in corpus}
    assert [row.id for row in trial.late] == [f"p{n}" for n in range(300, 600)]
    assert [question.id for question in trial.hard] == [f"q{n}" for n in range(360, 540)]


def test_refusals_count_as_wrong_and_sentences_over_answers_only() -> None:
    done = [
        asked("It is Paris. Not far.", ["paris"], ["It is Paris.", "Not far."]),
        asked("Far off. It is  PARIS.", ["Paris"], ["Far off.", "It is  PARIS."]),
        asked("It is Rome.", ["Paris"]),
        asked("The documents do not say.", ["Paris"]),
    ]

    report = summarise(done, hard=[done[3], done[2]], off_topic=[])

    assert (report.answer_rate, report.first_sentence_rate, report.false_refusal_rate) == (0.5, 0.25, 0.25)
    assert report.mean_sentences == round(5 / 3, 4)
    assert (report.hard_off_topic_refused, report.off_topic_refused) == (0.5, None)


def test_questions_without_answers_are_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"queries\.jsonl: answers: expected at least one for every question"):
        run(write(tmp_path / "facts", answers=False), console=Console(quiet=True))


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus\.jsonl"):
        run(tmp_path, console=Console(quiet=True))
