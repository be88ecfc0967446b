"""Element-wise majority: the scenario of seven ICD-10 code sets, and what else may be voted on."""

import csv
import os
from pathlib import Path

import pytest

from contracts.item import Answer, Completion, Failure, Item, Part
from contracts.job import Options
from contracts.steps import Judge
from services.judge.adapters.rubrics import Rubrics
from services.judge.domain.samples import Sample
from services.judge.domain.vote import take
from services.judge.handlers import judge
from shared.errors import ItemError

DATA = Path(os.environ.get("PENSTOCK_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
CODES = DATA / "codes" / "icd10.csv"

SETS = [
    ["I10", "E11.9", "E78.5"],
    ["I10", "E11.9"],
    ["E11.9", "I10", "N10"],
    ["I10", "E11.9", "E78.5"],
    ["E11.9", "Z79.4"],
    ["i10 ", "E11.9", "E78.5"],
    ["E11.9", "N10"],
]


async def vote(item: Item, key: str = "") -> Item:
    (done,) = await judge([item], Judge("vote", key=key), Options(), Rubrics({}))
    return done


def coded(sets: list[list[str]]) -> Item:
    parts = [
        Part(index=n, text="{}", data={"codes": list(codes), "note": f"draft {n}"}) for n, codes in enumerate(sets)
    ]
    return Item(n=0, parts=parts, prompt="codes@1")


async def test_seven_code_sets_keep_what_more_than_half_of_them_hold() -> None:
    done = await vote(coded(SETS), "codes")

    assert done.answer is not None
    assert done.verdict is not None
    assert done.answer.data == {"codes": ["E11.9", "I10"], "note": "draft 1"}
    assert done.answer.text == "E11.9, I10"
    assert done.answer.prompt == "codes@1"
    assert done.verdict.passed
    assert done.verdict.details["I10"] == round(5 / 7, 4)
    assert done.verdict.findings == [f"no majority for {code}" for code in ("E78.5", "N10", "Z79.4")]
    assert 0.5 < done.verdict.score < 1


@pytest.mark.data
@pytest.mark.skipif(not CODES.exists(), reason=f"needs the ICD-10 codes at {CODES}")
async def test_the_kept_codes_are_codes_of_icd_10() -> None:
    with CODES.open(encoding="utf-8", newline="") as file:
        known = {row[0] for row in csv.reader(file)}

    done = await vote(coded(SETS), "codes")

    assert done.verdict is not None
    assert {code.replace(".", "").strip().upper() for code in done.verdict.details} <= known


async def test_a_list_that_exactly_half_hold_is_not_a_majority() -> None:
    done = await vote(coded([["I10"], ["I10"], ["E11.9"], ["E11.9"]]), "codes")

    assert done.answer is not None
    assert done.verdict is not None
    assert done.answer.data == {"codes": [], "note": "draft 0"}
    assert not done.verdict.passed


async def test_equal_votes_stand_in_the_order_of_their_first_appearance() -> None:
    done = await vote(coded([["B", "A"], ["A", "B"], ["A", "B"]]), "codes")

    assert done.answer is not None
    assert done.answer.text == "B, A"


async def test_an_element_that_a_sample_repeats_counts_once() -> None:
    done = await vote(coded([["A", "A", "A"], ["B"], ["B"]]), "codes")

    assert done.answer is not None
    assert done.answer.text == "B"


async def test_failed_and_malformed_samples_are_left_out_and_reported() -> None:
    good = coded(SETS[:4]).parts
    bad = [
        Part(index=4, failure=Failure("upstream", "429 from the model", "generate")),
        Part(index=5, text="I cannot code this."),
        Part(index=6, text='{"code": "I10"}'),
    ]

    done = await vote(Item(n=0, parts=[*good, *bad]), "codes")

    assert done.alive
    assert done.verdict is not None
    assert done.verdict.details["I10"] == 1.0
    reports = done.verdict.findings[:3]
    assert reports[0] == "sample 4: 429 from the model"
    assert "expected a JSON object with the field `codes`" in reports[1]
    assert reports[2] == "sample 6: the field `codes` is missing"


async def test_fewer_than_half_valid_samples_are_a_failure() -> None:
    parts = [Part(index=n, failure=Failure("upstream", "no answer", "generate")) for n in range(5)]

    done = await vote(Item(n=0, parts=[*parts, *coded(SETS[:2]).parts]), "codes")

    assert done.failure is not None
    assert done.failure.code == "upstream"
    assert "only 2 of 7 samples are valid" in done.failure.reason
    assert done.answer is None


async def test_no_samples_are_a_failure() -> None:
    done = await vote(Item(n=0), "codes")

    assert done.failure is not None
    assert done.failure.code == "invalid_output"


@pytest.mark.parametrize(
    ("values", "winner", "agreement"),
    [
        ([42, 42, "41", 42.0], 42, 0.75),
        (["$1,000", "1000", "900"], "$1,000", 0.6667),
        (["Yes.", "yes", "No"], "Yes.", 0.6667),
        (["b", "a"], "b", 0.5),  # a tie goes to what came first
        ([True, True, False], True, 0.6667),
    ],
)
async def test_a_single_value_goes_to_what_most_samples_have(
    values: list[object], winner: object, agreement: float
) -> None:
    parts = [Part(index=n, text="{}", data={"answer": value}) for n, value in enumerate(values)]

    done = await vote(Item(n=0, parts=parts), "answer")

    assert done.answer is not None
    assert done.verdict is not None
    assert done.answer.data == {"answer": winner}
    assert done.verdict.score == agreement
    assert done.verdict.passed == (agreement > 0.5)


async def test_plain_texts_vote_without_regard_to_case_and_spaces() -> None:
    texts = ["The  answer is 42.", "the answer is 42", "The answer is 7."]
    completions = [Completion(text=text, model="m") for text in texts]

    done = await vote(Item(n=0, completions=completions))

    assert done.answer == Answer(text="The  answer is 42.", model="m")


async def test_json_in_a_code_fence_is_read() -> None:
    parts = [Part(index=n, text='```json\n{"codes": ["I10"]}\n```') for n in range(3)]

    done = await vote(Item(n=0, parts=parts), "codes")

    assert done.answer is not None
    assert done.answer.data == {"codes": ["I10"]}


def test_whole_objects_are_compared_by_their_content() -> None:
    drawn = [Sample(0, data={"a": 1, "b": 2}), Sample(1, data={"b": 2, "a": 1}), Sample(2, data={"a": 3})]

    outcome, left_out = take(drawn, "")

    assert outcome.value == {"a": 1, "b": 2}
    assert outcome.agreement == pytest.approx(2 / 3)
    assert left_out == []


def test_the_majority_of_one_bad_sample_is_nothing() -> None:
    with pytest.raises(ItemError, match="only 0 of 1"):
        take([Sample(0, text=" ")], "")
