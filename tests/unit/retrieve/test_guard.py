"""What tells two questions apart."""

import pytest

from services.retrieve.domain.guard import told_apart


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("What is the fee in 2024?", "What is the fee in 2025?", "number"),
        ("Does plan HMO-483 cover it?", "Does plan HMO-438 cover it?", "number"),
        ("What is the fee for two users?", "What is the fee for three users?", "number"),
        ("What are the rules for level II?", "What are the rules for level III?", "number"),
        ("Who leads the team in Berlin?", "Who leads the team in Munich?", "name"),
        ("Is AWS approved?", "Is GCP approved?", "name"),
        ("who leads the team in berlin", "who leads the team in munich", "words"),
        ("Which treatments are covered?", "Which treatments are not covered?", "negation"),
        ("May data be shared with consent?", "May data be shared without consent?", "negation"),
        ("Who is eligible for the bonus?", "Who is ineligible for the bonus?", "negation"),
        ("Is the driver insured?", "Is the driver uninsured?", "negation"),
        ("Where do I submit a claim?", "When do I submit a claim?", "kind"),
        ("Who was Warsz?", "What did Warsz own?", "kind"),
        ("What are auricles?", "What do auricles do?", "kind"),
        ("How long is maternity leave?", "How long is paternity leave?", "words"),
        ("What is the deductible?", "What is the deductible for families?", "words"),
        ("What is the copay in network?", "What is the copay out of network?", "words"),
        ("Does the buyer pay the seller?", "Does the seller pay the buyer?", "order"),
    ],
)
def test_what_tells_questions_apart_is_named(one: str, other: str, what: str) -> None:
    assert told_apart(one, other) == what
    assert told_apart(other, one) == what


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Does plan HMO-483 cover physiotherapy?", "Is physiotherapy covered by plan HMO-483?"),
        ("Who approves travel expenses?", "Travel expenses are approved by whom?"),
        ("How many vacation days do I get per year?", "How many days of vacation do I get each year?"),
        ("What is not covered?", "What isn't covered?"),
        ("What is the limit for 1,000 users?", "What is the limit for 1000 users?"),
        ("who leads the team in berlin?", "Who leads the team in Berlin?"),
        ("", ""),
    ],
)
def test_order_grammar_and_spelling_do_not_tell_apart(one: str, other: str) -> None:
    assert told_apart(one, other) == told_apart(other, one) == ""
