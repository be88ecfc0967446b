"""`penstock reindex` on the whole stack, with its accounts, while questions are asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from client.client import Penstock
from e2e.running import Running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

QUESTION = "Does plan HMO-483 cover physiotherapy after ACL surgery?"
PENSTOCK = Path(sys.executable).with_name("penstock")


def reindex(stack: Running, *arguments: str) -> "subprocess.Popen[str]":
    command = [str(PENSTOCK), "reindex", "--data", str(stack.info.data), "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("library")
async def test_engines_are_filled_anew_while_questions_are_answered(stack: Running, penstock: Penstock) -> None:
    filling = reindex(stack)
    answers = 0
    while filling.poll() is None or not answers:
        answered = await penstock.ask(QUESTION)
        assert answered.answer is not None
        assert "physiotherapy after surgery" in answered.answer.text
        answers += 1
    said, complaints = filling.communicate()
    assert filling.returncode == 0, complaints
    done = json.loads(said)
    assert (done["state"], done["serving"]) == ("done", {"vectors": "edge", "words": "edge"})
    assert done["passages"] >= 80
    assert (await penstock.ask(QUESTION)).answer is not None


async def test_a_server_that_is_away_is_one_line_and_exit_code_one(stack: Running) -> None:
    filling = reindex(stack, "--to", "words=opensearch")
    said, complaints = filling.communicate()
    assert filling.returncode == 1
    error = json.loads(said)["error"]
    assert "OpenSearch at http://127.0.0.1:9200 does not answer" in error
    assert error.endswith("the engines of before go on serving")
    assert "Traceback" not in complaints
