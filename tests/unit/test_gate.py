"""The gate of mixture-of-experts: whose question it is, and when it is nobody's."""

import pytest

from contracts.item import Input, Item
from contracts.job import Options
from contracts.steps import Decide, Generate, Render
from services.route.domain.gate import Expert, experts_of, gate
from services.route.domain.patterns import load_patterns
from shared.models import Catalogue, Model

ABOUT = {
    "hr": "leave, holidays, payroll, employees, onboarding, sick days, parental leave, resignation",
    "finance": "reconcile accounts, ledger, invoices, journal entries, accruals, month-end close, general ledger, VAT",
    "clinical": "patient admission, discharge, referral, lab results, medication, nurse, ward, appointment, diagnosis",
}
CATALOGUE = Catalogue(
    models=(
        Model(name="house", engine="noop", default=True),
        *(Model(name=name, engine="noop", expert=about) for name, about in ABOUT.items()),
    )
)
EXPERTS = experts_of(CATALOGUE)
PATTERN = load_patterns(EXPERTS).get("mixture-of-experts")


@pytest.mark.parametrize(
    ("question", "model"),
    [
        ("How much parental leave does a part-time employee get?", "hr"),
        ("Draft a reply about a resignation during probation.", "hr"),
        ("Which journal entry closes the accrual for unpaid invoices?", "finance"),
        ("The ledger and the bank differ by 12.40; how do I reconcile them?", "finance"),
        ("What has to be in a referral for a patient's lab results?", "clinical"),
        ("Which ward takes the patient after discharge from surgery?", "clinical"),
        ("Write a poem about the sea.", ""),
        ("", ""),
    ],
)
def test_a_question_goes_to_the_expert_whose_words_it_has(question: str, model: str) -> None:
    assert gate(question, EXPERTS) == model


def test_between_two_that_fit_as_well_nobody_is_chosen() -> None:
    twins = [Expert("a", {"leav": 1.0}), Expert("b", {"leav": 1.0})]
    assert gate("leave", twins) == ""
    assert gate("leave", []) == ""


def test_only_the_expert_runs_and_the_jobs_model_takes_the_rest() -> None:
    assert PATTERN.open(Options()) == [Decide()]
    options = Options(model="house", prompt="policy", max_tokens=9)
    item = Item(n=0, input=Input(question="Reconcile the ledger."))
    assert PATTERN.ways(item, options, EXPERTS) == [Render("policy", model="finance"), Generate(max_tokens=9)]
    other = Item(n=1, input=Input(question="Write a poem."))
    assert PATTERN.ways(other, options, EXPERTS)[0] == Render("policy", model="house")
