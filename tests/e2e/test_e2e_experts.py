"""mixture-of-experts over all services: each question of a shard goes to its expert, and no other model runs."""

import pytest

from client.client import Penstock
from contracts.item import Input
from contracts.job import Options
from e2e.running import Script

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

QUESTIONS = {
    "How many days of leave may an employee carry over?": "hr",
    "Reconcile the ledger with the invoice of March.": "finance",
    "Who approves the payroll of a new employee?": "hr",
    "Name the capital of France.": "scripted",
}


async def test_each_question_goes_to_its_expert_and_only_that_one_runs(penstock: Penstock, script: Script) -> None:
    script.when(".", "Done.")
    items = [Input(question=question) for question in QUESTIONS]
    receipt = await penstock.submit("mixture-of-experts", items, Options(model="scripted"))
    answers = [item.answer for shard in [one async for one in penstock.results(receipt)] for item in shard.items]
    assert [answer.model if answer else "" for answer in answers] == list(QUESTIONS.values())
    asked = sorted((call.last, call.body["model"]) for call in script.requests)
    ids = {"hr": "adapter-hr", "finance": "adapter-finance", "scripted": "scripted-1"}
    assert asked == sorted((question, ids[model]) for question, model in QUESTIONS.items())
