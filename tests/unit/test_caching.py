"""Which slips say that their answers may be kept, and under what; which answers are worth it; who gets them."""

import pytest
from msgspec.structs import replace

from contracts.item import Answer, Cached, Failure, Item, Keep, Verdict
from contracts.job import Options
from contracts.steps import AnyStep, Retrieve
from services.judge.domain.keeping import worth_keeping
from services.retrieve.domain.policy import Mode, mode_for
from services.route.domain.caching import keeping, mark
from services.route.domain.gate import Expert
from services.route.domain.patterns import load_patterns
from services.route.domain.prompts import load_prompts
from shared.models import load_catalogue

PROMPTS, CATALOGUE = load_prompts(), load_catalogue()
PATTERNS = keeping(load_patterns(), PROMPTS, CATALOGUE)


def digest(options: Options, pattern: str = "rag") -> str:
    return next((step.cache for step in PATTERNS.get(pattern).open(options) if isinstance(step, Retrieve)), "")


def test_rag_says_under_what_its_answers_are_kept() -> None:
    assert digest(Options())
    assert digest(Options(stream=True)) == digest(Options(stream=False)) == digest(Options(when_refused="fail"))


@pytest.mark.parametrize(
    "options",
    [Options(model="noop"), Options(passages=8), Options(max_tokens=9), Options(schema={"type": "object"})],
)
def test_what_shapes_an_answer_is_part_of_it(options: Options) -> None:
    assert digest(options) not in ("", digest(Options()))


@pytest.mark.parametrize("options", [Options(temperature=0.2), Options(session="s")])
def test_answers_that_are_drawn_or_belong_to_a_session_are_not_kept(options: Options) -> None:
    assert digest(options) == ""


@pytest.mark.parametrize("pattern", [pattern.name for pattern in PATTERNS if pattern.name != "rag"])
def test_no_other_pattern_is_changed(pattern: str) -> None:
    options = Options(rubric="any", vote="codes")
    assert PATTERNS.get(pattern).open(options) == load_patterns().get(pattern).open(options)


def test_a_prompt_that_does_not_exist_is_left_for_the_check_of_options() -> None:
    steps: list[AnyStep] = load_patterns().get("rag").open(Options(prompt="nope"))
    assert mark(steps, Options(prompt="nope"), PROMPTS, CATALOGUE) == steps


KEEP = Keep("key", "scope", "version", "rag@1")
GOOD = Item(n=0, answer=Answer("yes"), verdict=Verdict("grounding", True), prompt="rag@1", keep=KEEP)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"answer": Answer("yes", mode="extractive")}, True),
        ({"answer": Answer("yes", mode="degraded")}, False),
        ({"answer": Answer("no", mode="refused")}, False),
        ({"answer": Answer("ye", finish_reason="length")}, False),
        ({"answer": Answer("yes", cached=Cached("exact", 1.0))}, False),
        ({"answer": Answer("yes", rung="backup")}, False),
        ({"answer": Answer("yes", escalate=True)}, False),
        ({"answer": None}, False),
        ({"verdict": Verdict("grounding", False)}, False),
        ({"verdict": None}, False),
        ({"failure": Failure("ungrounded", "no")}, False),
        ({"keep": None}, False),
        ({"prompt": "rag@0"}, False),
    ],
)
def test_only_whole_answers_that_passed_their_check_are_kept(changes: dict[str, object], kept: bool) -> None:
    found = worth_keeping([replace(GOOD, **changes)], 7.0)
    assert [(one.under.key, one.at) for one in found] == ([("key", 7.0)] if kept else [])


def test_the_job_decides_within_what_the_settings_allow() -> None:
    special: dict[str, Mode] = {"acme": "semantic", "acme/rag": "off", "globex": "off"}
    assert mode_for("other", "rag", Options(), "exact", special) == "exact"
    assert mode_for("acme", "legal", Options(), "exact", special) == "semantic"
    assert mode_for("acme", "legal", Options(cache="off"), "exact", special) == "off"
    assert mode_for("other", "rag", Options(cache="semantic"), "exact", special) == "semantic"
    for tenant in ("acme", "globex"):
        asked = Options(cache="semantic")
        assert mode_for(tenant, "rag", asked, "exact", special) == "off"
    assert mode_for("other", "rag", Options(session="s"), "exact", special) == "off"


def test_the_experts_of_the_patterns_stay() -> None:
    experts = (Expert("hr", {"leav": 1.0}),)
    assert keeping(load_patterns(experts), PROMPTS, CATALOGUE).experts == experts
