"""Prefix keys and the choice of a replica: what they depend on, and how little moves when replicas come and go."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.item import Input, Item, Message, Passage
from contracts.job import Options
from services.route.domain.prefix import PrefixKey, prefix_key
from services.route.domain.prompts import PromptError, load_prompts
from services.route.domain.render import beginning, render
from services.route.domain.replicas import Candidate, pick, preference

PROMPTS = load_prompts()
KEYS = [f"key-{n}" for n in range(3000)]

names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)
loads = st.lists(st.integers(0, 50), min_size=8, max_size=8)


def policy(question: str, manual: str = "Leave: 30 days.", history: tuple[str, ...] = ()) -> Item:
    item = Item(n=0, input=Input(question=question, variables={"manual": manual}))
    return replace(item, history=[Message("user", turn) for turn in history])


def shown(item: Item, prompt: str = "policy") -> list[Message]:
    return render(item, PROMPTS.get(prompt), Options(), 8192).messages


def key(item: Item, model: str = "house", prompt: str = "policy") -> PrefixKey:
    return prefix_key(model, PROMPTS.get(prompt), beginning(item, PROMPTS.get(prompt), Options()))


def test_the_manual_stands_first_and_the_question_last() -> None:
    one, other = shown(policy("How many?", history=("Hello",))), shown(policy("Who?", history=("Hello",)))
    assert "Leave: 30 days." in one[0].content
    assert one[:-1] == other[:-1]
    assert one[-1].content.endswith("Question: How many?")


@given(st.text(max_size=40), st.text(max_size=40))
def test_the_key_does_not_depend_on_question_and_history(question: str, earlier: str) -> None:
    assert key(policy(question, history=(earlier,))) == key(policy("another"))


def test_the_key_depends_on_model_version_and_system_message() -> None:
    item = policy("How many?")
    keys = {
        key(item),
        key(item, model="other"),
        key(item, prompt="direct"),
        key(policy("How many?", "Leave: 31.")),
    }
    assert len(keys) == 4
    assert len({one.digest for one in keys}) == 4


def test_tenants_have_keys_of_their_own() -> None:
    one = key(policy("How many?"))
    assert one.of("acme") != one.of("globex")
    assert one.of("acme") == key(policy("Who?")).of("acme")


def test_passages_do_not_move_the_key() -> None:
    item = Item(n=0, input=Input(question="How many?"))
    with_passage = replace(item, passages=[Passage("a#0", "a", "A", "thirty")])
    assert key(item, prompt="rag") == key(with_passage, prompt="rag")


def chart(question: str, *earlier: str, text: str = "Chart: ACL repaired on 3 May.") -> Item:
    """A question on a chart in a session: each earlier one has its answer."""
    turns = [turn for said in earlier for turn in (Message("user", said), Message("assistant", "Yes."))]
    return replace(Item(n=0, input=Input(question=question, context=text)), history=turns)


@pytest.mark.parametrize("prompt", ["direct", "policy", "rag", "reflect-draft", "vendor-risk-draft"])
def test_follow_ups_on_one_chart_begin_with_it(prompt: str) -> None:
    items = [chart("One?"), chart("Two?", "One?"), chart("Three?", "One?", "Two?")]
    items = [replace(item, input=replace(item.input, variables={"manual": "M"})) for item in items]
    prompts = [shown(item, prompt) for item in items]
    for messages in prompts:
        assert messages[0] == prompts[0][0]
        assert messages[1].content.index("ACL repaired") < messages[1].content.index("One?")
        assert sum("ACL repaired" in message.content for message in messages) == 1
        assert [message.role for message in messages[1:]] == ["user", "assistant"] * (len(messages) // 2 - 1) + ["user"]
    assert len({key(item, prompt=prompt) for item in items}) == 1


def test_all_of_a_question_on_a_chart_is_the_beginning_of_the_next() -> None:
    first, second = shown(chart("One?"), "direct"), shown(chart("Two?", "One?"), "direct")
    assert second[: len(first)] == first


def test_another_chart_has_another_key() -> None:
    assert key(chart("One?"), prompt="direct") != key(chart("One?", text="Chart: none."), prompt="direct")


def test_material_comes_first_where_the_oldest_question_has_been_left_out() -> None:
    item = replace(chart("Two?"), history=[Message("assistant", "Yes.")])
    assert [message.role for message in shown(item, "direct")] == ["system", "user", "assistant", "user"]


def test_material_that_moves_with_the_question_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "mine" / "1"
    place.mkdir(parents=True)
    for name, text in {"system": "S", "user": "Go.", "material": "{{ passages }}"}.items():
        (place / f"{name}.md").write_text(text, encoding="utf-8")
    with pytest.raises(PromptError, match=r"material\.md: 'passages' differs from question to question"):
        load_prompts(tmp_path)


def test_a_system_prompt_that_moves_with_the_question_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "mine" / "1"
    place.mkdir(parents=True)
    (place / "system.md").write_text("You answer {{ question }}", encoding="utf-8")
    (place / "user.md").write_text("Go.", encoding="utf-8")
    with pytest.raises(
        PromptError, match=r"system\.md: 'question' differs from question to question.*use it in user\.md"
    ):
        load_prompts(tmp_path)


def replicas(count: int, load: int = 0, slots: int = 1) -> list[Candidate]:
    return [Candidate(f"generate-{n}", load, slots) for n in range(count)]


def owner(key: str, candidates: list[Candidate]) -> str:
    found = pick(key, candidates)
    assert found is not None
    return found.name


def test_without_replicas_there_is_none() -> None:
    assert pick("key", []) is None


def test_a_third_replica_takes_a_third_of_the_keys_and_no_other_key_moves() -> None:
    two, three = replicas(2), replicas(3)
    moved = [key for key in KEYS if owner(key, two) != owner(key, three)]
    assert 0.30 < len(moved) / len(KEYS) < 0.37
    assert {owner(key, three) for key in moved} == {"generate-2"}


@given(names)
def test_a_replica_that_leaves_moves_only_its_own_keys(some: list[str]) -> None:
    candidates = [Candidate(name) for name in some]
    for key in KEYS[:50]:
        gone = candidates[0]
        before, left = preference(key, candidates)[0], preference(key, candidates[1:])
        assert before == gone or before == left[0]


def test_keys_are_spread_evenly() -> None:
    shares = Counter(owner(key, replicas(4)) for key in KEYS)
    assert all(0.2 < count / len(KEYS) < 0.3 for count in shares.values())


@given(names, loads)
def test_the_order_of_the_list_does_not_matter(some: list[str], busy: list[int]) -> None:
    candidates = [Candidate(name, load, 4) for name, load in zip(some, busy, strict=False)]
    assert pick("key", candidates) == pick("key", candidates[::-1])


@given(names, loads, st.integers(1, 16))
def test_no_replica_is_given_more_than_its_slots_or_its_fair_share(
    some: list[str], busy: list[int], slots: int
) -> None:
    candidates = [Candidate(name, load, slots) for name, load in zip(some, busy, strict=False)]
    found = pick("key", candidates)
    assert found is not None
    mean = (sum(candidate.load for candidate in candidates) + 1) / len(candidates)
    assert found.load < slots or found.load < 1.25 * mean + 1


def test_a_hot_key_stays_while_there_is_room_and_then_spreads_to_its_second_choice() -> None:
    first, second, third = preference("hot", replicas(3, slots=4))
    busy = [replace_load(first, 3), second, third]
    assert pick("hot", busy) == busy[0]
    full = [replace_load(first, 4), second, third]
    assert pick("hot", full) == second


def replace_load(candidate: Candidate, load: int) -> Candidate:
    return Candidate(candidate.name, load, candidate.slots)
