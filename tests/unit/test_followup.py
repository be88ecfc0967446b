"""Follow-up questions search with the words of the questions before them."""

import pytest

from contracts.item import Message
from services.route.domain.followup import leans, standalone

FIRST = "Does plan HMO-483 cover physiotherapy after ACL surgery?"


def asked(*questions: str) -> list[Message]:
    return [turn for question in questions for turn in (Message("user", question), Message("assistant", "Yes [1]."))]


@pytest.mark.parametrize(
    "question",
    ["and with prior authorization?", "How many?", "What about visits to an out-of-network clinic?", "Is it limited?"],
)
def test_short_and_anaphoric_questions_lean_on_the_earlier_ones(question: str) -> None:
    assert leans(question)
    query = standalone(question, asked(FIRST))
    assert query.endswith(question)
    assert {"HMO-483", "physiotherapy", "ACL", "surgery"} <= set(query.split())


@pytest.mark.parametrize(
    "question",
    [
        FIRST,
        "What is the notice period for termination of the supply agreement?",
        "Which limits apply to the visits that plan PPO-11 covers within the first contract year?",
    ],
)
def test_a_complete_question_stands_alone(question: str) -> None:
    assert standalone(question, asked("How do I file an expense report?")) == ""


def test_a_chain_of_follow_ups_goes_back_to_the_question_that_stands_alone() -> None:
    query = standalone("how many?", asked("What is the price list for gaskets?", FIRST, "and with a referral?"))
    assert "physiotherapy" in query
    assert "referral" in query
    assert "gaskets" not in query


def test_words_are_not_repeated_and_nothing_is_carried_without_history() -> None:
    assert standalone("and physiotherapy?", []) == ""
    query = standalone("and physiotherapy?", asked(FIRST))
    assert query.count("physiotherapy") == 1


def test_answers_are_not_searched_for() -> None:
    history = [Message("user", FIRST), Message("assistant", "The zebra clause says so.")]
    assert "zebra" not in standalone("and then?", history)
