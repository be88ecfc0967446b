"""Rubrics: the scenario of twelve collections SMS, reading level, and files that are wrong."""

from pathlib import Path

import pytest

from contracts.item import Completion, Failure, Item, Part
from contracts.job import Options
from contracts.steps import Judge
from services.judge.adapters.rubrics import BUILT_IN, Rubrics, load_rubrics
from services.judge.domain.readability import grade
from services.judge.handlers import judge
from shared.errors import ItemError
from shared.settings import SettingsError

BEST = (
    "Hi Ana, your balance of $48 is due. Please pay at https://pay.example.com/a1 or call us for help. "
    "Thank you! Reply STOP to opt out."
)
VARIANTS = [
    "Pay now or we will see you in court: https://pay.example.com/a1 $48. Reply STOP to opt out.",  # a threat
    "FINAL NOTICE: your balance of $48 must be paid at https://pay.example.com/a1. Reply STOP to opt out.",
    "Hi Ana, your balance of $48 is due. Please pay at https://pay.example.com/a1. Thank you!",  # no opt-out
    "Hi Ana, your balance of $48 is due. Please call us. Reply STOP to opt out.",  # no link
    "Notwithstanding previous communications, the outstanding remuneration of $48 necessitates settlement via "
    "https://pay.example.com/a1. Reply STOP to opt out.",  # hard to read
    "Hi Ana, your balance of $48 is due. " + "We would like to tell you more about our company. " * 6 + "Please pay at "
    "https://pay.example.com/a1. Reply STOP to opt out.",  # too long
    "You are a delinquent. Your debt of $48 is overdue: https://pay.example.com/a1. Reply STOP to opt out.",  # tone
    BEST,
    "Your amount due: $48. https://pay.example.com/a1 Reply STOP to opt out.",
    "Hello Ana, you owe $48. https://pay.example.com/a1. Reply STOP to opt out.",
    "Pay https://pay.example.com/a1 please. Reply STOP to opt out.",  # no amount
    "Hi! Reply STOP to opt out. https://pay.example.com/a1",
]


async def rubric(item: Item, name: str = "collections-sms", shelf: Rubrics | None = None) -> Item:
    (done,) = await judge([item], Judge("rubric", rubric=name), Options(), shelf or load_rubrics(BUILT_IN))
    return done


def drawn(texts: list[str]) -> Item:
    return Item(n=0, completions=[Completion(text=text, model="m") for text in texts])


async def test_of_twelve_sms_the_one_is_picked_that_a_customer_may_get() -> None:
    done = await rubric(drawn(VARIANTS))

    assert done.answer is not None
    assert done.verdict is not None
    assert done.answer.text == BEST
    assert done.answer.model == "m"
    assert done.verdict.passed
    assert done.verdict.score > 0.9
    assert done.verdict.details.keys() >= {"opt_out", "no_threats", "length", "reading_level", "tone", "clarity"}
    out = {finding.partition(":")[0] for finding in done.verdict.findings}
    assert out == {f"sample {n}" for n in (0, 1, 2, 3, 5)}


async def test_the_pick_does_not_depend_on_the_order() -> None:
    done = await rubric(drawn(VARIANTS[::-1]))

    assert done.answer is not None
    assert done.answer.text == BEST


async def test_parts_are_scored_too_and_failed_ones_are_left_out() -> None:
    parts = [Part(index=0, failure=Failure("upstream", "no answer", "generate")), Part(index=1, text=BEST)]

    done = await rubric(Item(n=0, parts=parts))

    assert done.answer is not None
    assert done.answer.text == BEST


async def test_where_every_variant_misses_a_must_there_is_no_answer() -> None:
    done = await rubric(drawn(VARIANTS[:4]))

    assert done.failure is not None
    assert done.failure.code == "invalid_output"
    assert "each of the 4 samples misses a must" in done.failure.reason
    assert "opt_out" in done.failure.reason
    assert done.answer is None


async def test_nothing_to_score_is_a_failure() -> None:
    done = await rubric(Item(n=0))

    assert done.failure is not None
    assert "at least one sample" in done.failure.reason


@pytest.mark.parametrize("name", ["", "nosuch", "collections-sms@7", "collections-sms@x"])
async def test_an_unknown_rubric_is_named_with_those_there_are(name: str) -> None:
    done = await rubric(drawn([BEST]), name)

    assert done.failure is not None
    assert done.failure.code == "malformed"
    assert "expected one of collections-sms" in done.failure.reason


def test_grade_by_hand() -> None:
    # 5 words, 1 sentence, syllables 1+1+1+1+2: 0.39 * 5 + 11.8 * 6 / 5 - 15.59
    assert grade("Please pay the bill today.") == pytest.approx(0.52)
    # 3 words, 1 sentence, syllables 5+5+3: 0.39 * 3 + 11.8 * 13 / 3 - 15.59
    assert grade("Remuneration necessitates settlement.") == pytest.approx(36.7133, abs=1e-3)


@pytest.mark.parametrize("text", ["", "The cat sat.", "{link}", "https://pay.example.com/some-complicated-address"])
def test_grade_is_never_below_zero_and_links_do_not_count(text: str) -> None:
    assert grade(text) == 0.0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("title: A\n", "criteria: Field required"),
        ("title: A\ncriteria: []\n", "criteria: List should have at least 1 item"),
        ("title: A\ncriteria: [{name: a, weight: 1, kind: size}]\n", "criteria.0: .*'size'"),
        ("title: A\ncriteria: [{name: a, weight: 0, kind: any, phrases: [x]}]\n", "weight: .*greater than 0"),
        ("title: A\ncriteria: [{name: a, weight: 1, kind: any, phrases: ['(']}]\n", "is not a regular expression"),
        ("title: A\ncriteria: [{name: a, weight: 1, kind: any, phrases: [x], colour: 1}]\n", "colour: Extra inputs"),
        ("title: A\ncriteria: [{name: a, weight: 1, kind: length, best: 9, max: 5}]\n", "min <= best <= max"),
        ("title: [\n", "not a YAML file"),
        (
            "title: A\ncriteria: [{name: a, weight: 1, kind: any, phrases: [x]}, "
            "{name: a, weight: 1, kind: any, phrases: [x]}]\n",
            "a stands there twice",
        ),
    ],
)
def test_a_wrong_rubric_file_is_named_with_its_field(content: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "1.yaml"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")

    with pytest.raises(SettingsError, match=complaint) as caught:
        load_rubrics(tmp_path)

    assert str(path) in str(caught.value)


def test_the_newest_version_counts_and_own_rubrics_come_on_top(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for version, title in ((2, "two"), (10, "ten")):
        text = f"title: {title}\ncriteria: [{{name: a, weight: 1, kind: any, phrases: [x]}}]\n"
        (tmp_path / "mine" / f"{version}.yaml").write_text(text, encoding="utf-8")

    shelf = load_rubrics(BUILT_IN, tmp_path)

    assert shelf.get("mine")[0] == "mine@10"
    assert shelf.get("mine@2")[1].title == "two"
    assert shelf.get("collections-sms")[0] == "collections-sms@1"
    with pytest.raises(ItemError, match="mine@2, mine@10"):
        shelf.get("mine@3")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere: expected a folder with rubrics"):
        load_rubrics(tmp_path / "nowhere")
