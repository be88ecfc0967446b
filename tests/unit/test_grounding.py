"""Grounding: which sentences of an answer its passages support."""

import pytest

from contracts.item import Answer, Input, Item, Part, Passage, Quote
from services.judge.domain.grounding import check
from services.judge.domain.sources import Source, sources

PHYSIO = Passage(
    chunk="hmo#4",
    document="hmo",
    title="HMO-483 Benefits 2025",
    text="4.2 Outpatient physiotherapy is covered for up to 30 visits in a plan year. After surgery of the "
    "anterior cruciate ligament (ACL) the limit rises to 45 visits. However, visits beyond the 20th require prior "
    "authorization.",
    section="4 Therapies",
    clause="4.2",
    page=3,
)
SPEECH = Passage(
    chunk="hmo#5",
    document="hmo",
    title="HMO-483 Benefits 2025",
    text="4.3 Speech therapy is not covered, unless it follows a stroke.\n\nThe following services are excluded:\n\n"
    "- cosmetic surgery\n- dental implants",
    clause="4.3",
)
STAFF = Passage(
    chunk="staff#0",
    document="staff",
    title="Handbook",
    text="The data protection officer is Maria Lindqvist. Either side may end the employment with a notice of three "
    "months. The budget is 1,250.50 EUR.",
)
FOUND = [Source(PHYSIO), Source(SPEECH), Source(STAFF)]


@pytest.mark.parametrize(
    "text",
    [
        "Outpatient physiotherapy is covered for up to 30 visits in a plan year [1].",
        "Yes. Plan HMO-483 covers physiotherapy, for up to 45 visits after ACL surgery [1].",
        "Visits beyond the 20th need prior authorization. [1]",
        'The booklet says "the limit rises to 45 visits" after ACL surgery [1].',
        "Speech therapy is not covered [2].",
        "Cosmetic surgery is excluded.",
        "Cosmetic surgery and dental implants are not covered.",  # "excluded" denies as well
        "The notice is 3 months.",
        "The officer for data protection is Maria Lindqvist.",
        "The budget is €1250.50.",
        "Physiotherapy is covered for up to 30 visits a year [1]. The documents do not say whether massage is covered.",
    ],
)
def test_supported(text: str) -> None:
    answer, verdict = check(Answer(text), FOUND)

    assert verdict.passed, verdict.findings
    assert verdict.score == 1.0
    assert answer.quotes


@pytest.mark.parametrize(
    ("text", "unsupported"),
    [
        ("Physiotherapy is covered for up to 60 visits in a plan year [1].", 1),  # another number
        ("Plan PPO-210 covers outpatient physiotherapy for up to 30 visits in a plan year.", 1),  # another plan
        ("Speech therapy is covered.", 1),  # what is denied
        ("Outpatient physiotherapy is not covered for up to 30 visits in a plan year.", 1),  # what is affirmed
        ("The data protection officer is Anna Lindqvist, as is Maria Holm.", 1),  # another name
        ("Outpatient physiotherapy is covered for up to 30 visits in a plan year [3].", 1),  # another passage
        ("Outpatient physiotherapy is covered for up to 30 visits in a plan year [7].", 1),  # no such passage
        ('The booklet says "physiotherapy is free of charge" [1].', 1),  # not a quote
        ("Massage therapy is covered.", 1),  # another therapy
        ("Outpatient physiotherapy is covered for up to 0 visits in a plan year.", 1),  # a part of a number
        ("Acupuncture and massage are covered. Speech therapy is not covered [2].", 1),
    ],
)
def test_not_supported(text: str, unsupported: int) -> None:
    _, verdict = check(Answer(text), FOUND)

    assert not verdict.passed
    assert len(verdict.findings) == unsupported
    assert verdict.score < 1


def test_names_the_sentences_that_lack_support_and_their_share() -> None:
    text = "Speech therapy is not covered [2]. Lunch is served at noon. The notice is 3 months. Parking costs $8."

    _, verdict = check(Answer(text), FOUND)

    assert verdict.findings == ["Lunch is served at noon.", "Parking costs $8."]
    assert verdict.score == 0.5


def test_fills_in_the_sentences_that_support_the_answer() -> None:
    answer, _ = check(Answer("After ACL surgery up to 45 visits are covered, as physiotherapy [1]."), FOUND)

    first = answer.quotes[0]
    assert first.text.startswith("After surgery of the anterior cruciate ligament")
    assert (first.document, first.chunk, first.clause, first.page) == ("hmo", "hmo#4", "4.2", 3)
    assert answer.text.endswith("[1].")


def test_an_extractive_answer_has_to_be_verbatim() -> None:
    quote = Quote(
        "The following services are excluded:\n- cosmetic surgery\n- dental implants", "hmo", "", chunk="hmo#5"
    )
    verbatim = Answer(quote.text, mode="extractive", quotes=[quote])
    reworded = Answer("Up to 30 visits of physiotherapy are covered in a plan year.", mode="extractive")

    answer, verdict = check(verbatim, FOUND)

    assert verdict.passed
    assert answer.quotes == [quote]
    assert not check(reworded, FOUND)[1].passed


def test_quotes_may_run_together_into_other_sentences() -> None:
    passage = Passage(chunk="a#0", document="a", title="A", text="The air of Mars holds 0.1% O\n2. Earth's holds more.")
    texts = ["The air of Mars holds 0.1% O", "2. Earth's holds more."]
    answer = Answer(" ".join(texts), mode="extractive", quotes=[Quote(text, "a", "A", chunk="a#0") for text in texts])

    assert check(answer, [Source(passage)])[1].passed


def test_a_quote_that_stands_in_no_passage_is_dropped() -> None:
    forged = Quote("Massage is covered.", "hmo", "", chunk="hmo#4")

    answer, verdict = check(Answer("Massage is covered.", mode="extractive", quotes=[forged]), FOUND)

    assert not verdict.passed
    assert answer.quotes == []


@pytest.mark.parametrize(
    "text", ["The documents do not say.", "the documents do not say", "**The documents do not say.**"]
)
def test_a_refusal_is_grounded(text: str) -> None:
    answer, verdict = check(Answer(text), [])

    assert verdict.passed
    assert (answer.mode, answer.finish_reason) == ("refused", "refused")


def test_a_json_answer_is_checked_by_its_texts_and_numbers() -> None:
    right = Answer(
        "{}", data={"covered": True, "visits": 45, "reason": "After ACL surgery the limit rises to 45 visits."}
    )
    wrong = Answer("{}", data={"covered": True, "visits": 48})

    assert check(right, FOUND)[1].passed
    assert check(wrong, FOUND)[1].findings == ["48"]


def test_rests_on_parts_or_context_where_there_are_no_passages() -> None:
    context = Item(n=0, input=Input(question="?", context="The notice is three months."))
    parts = Item(n=0, parts=[Part(index=0, text="The notice is three months."), Part(index=1)])

    for item in (context, parts):
        assert check(Answer("The notice is 3 months."), sources(item))[1].passed
    assert not check(Answer("The notice is 3 months."), sources(Item(n=0)))[1].passed


def test_a_number_of_something_else_supports_nothing() -> None:
    text = "Up to 40 visits per surgery are covered. Treatment begins within 90 days of the surgery."
    found = [Source(Passage(chunk="d#1", document="d", title="D", text=text))]
    _, right = check(Answer(text="Up to 40 visits are covered within 90 days of the surgery."), found)
    _, wrong = check(Answer(text="Up to 90 visits are covered within 40 days of the surgery."), found)
    assert right.passed
    assert not wrong.passed
