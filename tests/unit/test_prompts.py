"""The prompts of the scenarios: what they show the model, and which outputs their schemas take."""

from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from contracts.item import Answer, Input, Item, Part, Verdict
from contracts.job import Options
from services.route.domain.prompts import load_prompts
from services.route.domain.render import render

PROMPTS = load_prompts()
WINDOW = 8192


def shown(prompt: str, item: Item, options: Options | None = None) -> tuple[str, str]:
    """The system prompt and the user's part."""
    messages = render(item, PROMPTS.get(prompt), options or Options(), WINDOW).messages
    return messages[0].content, messages[-1].content


def fits(prompt: str, data: Any) -> bool:
    schema = PROMPTS.get(prompt).schema
    assert schema is not None
    return jsonschema.Draft202012Validator(schema).is_valid(data)


def test_dispute_asks_for_the_required_fields_and_promises_nothing() -> None:
    item = Item(n=0, input=Input(question="I did not buy this! Card 4411, 3 May."))
    system, user = shown("dispute", item)
    assert "Never promise a refund" in system
    assert "missing_fields" in system
    assert "Required fields: transaction_id, last4, date, amount" in user
    assert "Card 4411" in user
    mine = replace(item, input=replace(item.input, variables={"required_fields": "reference, amount"}))
    assert "Required fields: reference, amount" in shown("dispute", mine)[1]


def test_dispute_takes_three_keys_and_no_others() -> None:
    good = {"missing_fields": ["amount"], "next_questions": ["How much was it?"], "draft_reply": "Thank you."}
    assert fits("dispute", good)
    assert fits("dispute", good | {"missing_fields": [], "next_questions": []})
    assert not fits("dispute", {key: good[key] for key in ("missing_fields", "draft_reply")})
    assert not fits("dispute", good | {"refund": True})
    assert not fits("dispute", good | {"draft_reply": ""})


@pytest.mark.parametrize(
    ("codes", "valid"),
    [
        (["I10", "E11.9", "S72.001A", "Z79.4", "U07.1"], True),
        ([], True),
        (["i10"], False),
        (["I10", "I10"], False),
        (["Hypertension"], False),
        (["E11."], False),
    ],
)
def test_icd_codes_takes_codes_in_their_form(codes: list[str], valid: bool) -> None:
    assert fits("icd-codes", {"codes": codes}) is valid


def test_icd_codes_reads_the_summary_from_the_context_or_the_question() -> None:
    alone = shown("icd-codes", Item(n=0, input=Input(question="Admitted with pneumonia.")))[1]
    assert alone.count("pneumonia") == 1
    both = Item(n=0, input=Input(question="Suggest codes.", context="Admitted with pneumonia."))
    assert shown("icd-codes", both)[1].index("pneumonia") < shown("icd-codes", both)[1].index("Suggest codes.")


def test_collections_sms_names_its_rules_and_its_facts() -> None:
    facts = {"company": "Northlight Energy", "amount": "84.20 EUR", "link": "https://pay.example/x1"}
    item = Item(n=0, input=Input(question="Remind the customer.", variables=facts))
    system, user = shown("collections-sms", item)
    assert "Reply STOP to opt out" in system
    assert "at most 160 characters" in system
    assert all(fact in user for fact in facts.values())
    assert "Due:" not in user


def test_vendor_risk_critique_and_revision_see_draft_and_findings() -> None:
    item = Item(n=0, input=Input(question="Explain exception CC6.1."), answer=Answer("We guarantee a fix."))
    critiqued = render(item, PROMPTS.get("vendor-risk-critique"), Options(), WINDOW)
    assert "We guarantee a fix." in critiqued.messages[-1].content
    assert critiqued.draft == "We guarantee a fix."
    verdict = Verdict("critique", False, findings=["1: 'guarantee' promises"])
    user = shown("vendor-risk-revise", replace(critiqued, verdict=verdict, answer=Answer("{}")))[1]
    assert "We guarantee a fix." in user
    assert "1. 1: 'guarantee' promises" in user
    assert fits("vendor-risk-critique", {"passed": False, "findings": ["x"]})
    assert not fits("vendor-risk-critique", {"passed": "no", "findings": []})


def test_map_reduce_prompts_see_section_parts_and_summary() -> None:
    section = Item(n=0, input=Input(question="Who may terminate?", context="12.1 Either party may terminate."))
    assert "12.1 Either party" in shown("section-summary", section)[1]
    whole = replace(section, parts=[Part(0, "Parties."), Part(1, "Either party may terminate [12.1].")])
    user = shown("master-summary", whole)[1]
    assert '<section number="2">\nEither party may terminate [12.1].' in user
    assert "12.1 Either party may terminate." not in user, "the document itself is not shown again"
    final = shown("final-answer", replace(whole, answer=Answer("An agreement.")))[1]
    assert "An agreement." in final
    assert final.endswith("Question: Who may terminate?")
