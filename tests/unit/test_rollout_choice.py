"""Which replicas must know a new version's beginning before traffic moves."""

from dataclasses import replace
from pathlib import Path

from contracts.events import shown
from services.route.domain.prefix import Beginning, begun
from services.route.domain.prompts import load_prompts
from services.route.domain.replicas import Candidate, preference
from services.route.domain.rollout import Change, cold

CHANGE = Change(Beginning("acme", "house", "policy@2", "new", ()), "old")
RANKED = [one.name for one in preference("new", [Candidate(name) for name in ("a", "b", "c")])]


def holding(**held: str) -> dict[str, frozenset[str]]:
    return {name: frozenset(held.get(name, "").split()) for name in ("a", "b", "c")}


def test_as_many_are_warmed_as_served_the_version_before() -> None:
    assert cold(CHANGE, holding(a="old")) == RANKED[:1]
    assert cold(CHANGE, holding(a="old", b="x old", c="old y")) == RANKED


def test_those_that_are_warm_are_not_warmed_again() -> None:
    first, second, _ = RANKED
    assert cold(CHANGE, holding(**{first: "new", second: "old"})) == []
    assert cold(CHANGE, holding(**{first: "new old", second: "old"})) == [second]
    assert cold(CHANGE, holding(a="old new", b="old new", c="old new")) == []


def test_keys_are_longer_than_what_the_register_shows_of_them() -> None:
    old, new = "9f86d081884c7d659a2feaa0", "c55ad015a3bf4f1b2b0b822c"
    change = Change(replace(CHANGE.to, key=new), old)
    assert cold(change, {"a": {shown(old)}}) == ["a"]
    assert cold(change, {"a": {shown(old), shown(new)}}) == []


def test_without_traffic_there_is_nothing_to_wait_for() -> None:
    assert cold(CHANGE, holding()) == []
    assert cold(CHANGE, {}) == []


def test_material_is_part_of_a_beginning() -> None:
    prompt = load_prompts().get("policy")
    found = begun("acme", "house", prompt, "S", "M")
    assert [message.role for message in found.messages] == ["system", "user"]
    assert found.key != begun("acme", "house", prompt, "S", "").key


def test_before_the_newest_version_there_was_the_next_lower_one(tmp_path: Path) -> None:
    for version in (1, 3, 10):
        place = tmp_path / "greet" / str(version)
        place.mkdir(parents=True)
        for file in ("system.md", "user.md"):
            (place / file).write_text(str(version), encoding="utf-8")
    prompts = load_prompts(tmp_path)
    before = prompts.before("greet")
    assert before is not None
    assert before.ref == "greet@3"
    assert prompts.before("greet@10") is None, "who names a version gets it"
    assert prompts.before("other") is None
