"""A critique: what a model found wrong with a draft."""

from contracts.item import Item, Verdict
from services.judge.domain.answers import answer_of
from services.judge.domain.samples import json_of
from shared.errors import ItemError

_EXPECTED = 'a JSON object like {"passed": false, "findings": ["…"]}'


def critique_of(item: Item) -> Verdict:
    """The verdict that the item's last answer holds. It passes only where there is no finding.

    Raises ItemError (invalid_output) where the answer is not a critique.
    """
    answer = answer_of(item)
    if answer is None:
        raise ItemError("invalid_output", f"critique: expected {_EXPECTED}, got no answer")
    data = answer.data if answer.data is not None else json_of(answer.text)
    if not isinstance(data, dict):
        raise ItemError("invalid_output", f"critique: expected {_EXPECTED}, got {answer.text[:60]!r}")
    passed = data.get("passed", data.get("ok"))
    findings = data.get("findings", [])
    if not isinstance(passed, bool):
        raise ItemError("invalid_output", f"critique.passed: expected true or false, got {passed!r}")
    if not isinstance(findings, list) or not all(isinstance(finding, str) for finding in findings):
        raise ItemError("invalid_output", f"critique.findings: expected a list of strings, got {findings!r}")
    points = [str(finding).strip() for finding in findings if str(finding).strip()]
    good = passed and not points
    return Verdict(check="critique", passed=good, score=1.0 if good else 0.0, findings=points)
