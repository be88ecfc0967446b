"""Patterns: the slips they open with, what they need of an input, and what they decide."""

from collections.abc import Sequence

import pytest

from contracts.item import Answer, DocumentRef, Input, Item, Message, Tool, Verdict
from contracts.job import Options
from contracts.steps import (
    AnyStep,
    Decide,
    Generate,
    Index,
    Judge,
    Parse,
    Recall,
    Remember,
    Render,
    Rerank,
    Retrieve,
    Scatter,
    Sections,
)
from services.route.domain.options import check_options, check_slip
from services.route.domain.pattern import Pattern
from services.route.domain.patterns import load_patterns
from services.route.domain.prompts import load_prompts
from shared.errors import Rejected
from shared.models import Catalogue, Model, load_catalogue

ABLE = Catalogue(
    models=(Model(name="able", engine="openai", base_url="http://127.0.0.1/v1", id="x", tools="native", default=True),)
)
PATTERNS = load_patterns()
PROMPTS = load_prompts()


def kinds(steps: Sequence[AnyStep]) -> list[type]:
    return [type(step) for step in steps]


def test_an_unknown_pattern_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Rejected, match=r"no such pattern 'ragg'; known are .*ingest.*noop.*rag"):
        PATTERNS.get("ragg")


@pytest.mark.parametrize("pattern", list(PATTERNS), ids=lambda pattern: pattern.name)
def test_every_prompt_that_an_opening_names_exists(pattern: Pattern) -> None:
    opening = pattern.open(Options(rubric="sms"))
    check_slip(opening, PROMPTS)
    assert opening


def test_rag_retrieves_reranks_renders_generates_and_judges() -> None:
    slip = PATTERNS.get("rag").open(Options(passages=8, max_tokens=99, stream=True))
    assert kinds(slip) == [Retrieve, Rerank, Render, Generate, Judge]
    assert slip[0] == Retrieve(top=30)
    assert slip[1] == Rerank(top=8)
    assert slip[3] == Generate(max_tokens=99, stream=True)


def test_rag_in_a_session_recalls_first_and_remembers_last() -> None:
    rag = PATTERNS.get("rag")
    slip = rag.open(Options(session="s1"))
    assert kinds(slip)[:2] == [Recall, Decide]
    assert kinds(slip)[-1] is Remember
    item = Item(
        n=0,
        input=Input(question="And with prior authorization?"),
        history=[Message("user", "Does plan HMO-483 cover physiotherapy?"), Message("assistant", "Yes.")],
    )
    assert rag.amend is not None
    assert rag.decide is not None
    assert rag.amend(item, Options()).question == (
        "Does plan HMO-483 cover physiotherapy And with prior authorization?".removeprefix("Does ")
    )
    assert rag.decide(item, Options()) == []


def test_ingest_parses_and_indexes_and_needs_a_document() -> None:
    ingest = PATTERNS.get("ingest")
    assert kinds(ingest.open(Options())) == [Parse, Index]
    assert ingest.check(Input(document=DocumentRef(name="a.md", text="x"))) is None
    assert ingest.check(Input()) == "document: expected an object with the file's name and its claim or text, got none"
    assert ingest.check(Input(document=DocumentRef(name="a.md"))) == (
        "document: expected either a claim or a text, got neither"
    )
    assert "got both" in str(ingest.check(Input(document=DocumentRef(name="a", text="x", claim="y"))))


def test_noop_takes_any_input_straight_to_the_model_that_does_nothing() -> None:
    noop = PATTERNS.get("noop")
    assert noop.open(Options()) == [Generate(model="noop")]
    assert noop.check(Input()) is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Why?", None),
        ("x" * 32768, None),
        ("", "question: expected 1 to 32768 characters, got 0"),
        ("x" * 1048576, "question: expected 1 to 32768 characters, got 1048576"),
        (" \n", "question: expected 1 to 32768 characters, got nothing but white space"),
    ],
)
def test_a_question_has_1_to_32768_characters(question: str, expected: str | None) -> None:
    assert PATTERNS.get("rag").check(Input(question=question)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(passages=0), "options.passages: expected 1 to 50, got 0"),
        (Options(n=-1), "options.n: expected 0 to 64, got -1"),
        (Options(temperature=3), "options.temperature: expected 0.0 to 2.0, got 3"),
        (Options(logprobs=21), "options.logprobs: expected 0 to 20, got 21"),
        (Options(seed=-1), "options.seed: expected 0 to 2147483647, got -1"),
        (Options(seed=2**64), "options.seed: expected 0 to 2147483647, got 18446744073709551616"),
        (Options(stop=["a", ""]), "options.stop: expected at most 16 texts, none of them empty, got ['a', '']"),
        (Options(tools=[Tool("a")]), "options.tools: the model 'extractive' takes no tools; those that do: none"),
        (Options(model="gpt"), "options.model: no such model 'gpt'; known are extractive"),
        (Options(schema={"type": "strnig"}), "options.schema: not a JSON Schema: $.type"),
        (Options(schema={"type": "string"}), "options.schema: expected the type object or array, got 'string'"),
    ],
)
def test_options_without_sense_are_refused(options: Options, expected: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_options(options, load_catalogue())
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([Tool("a b")], "options.tools[0].name: expected 1 to 64 letters, digits, - and _, each name once, and not "),
        ([Tool("none")], "options.tools[0].name: expected 1 to 64 letters"),
        ([Tool("a"), Tool("a")], "options.tools[1].name: "),
        ([Tool("a", parameters={"type": "strnig"})], "options.tools[0].parameters: not a JSON Schema: $.type"),
    ],
)
def test_tools_without_sense_are_refused(tools: list[Tool], expected: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_options(Options(tools=tools), ABLE)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("choice", ["", "auto", "none", "required", "a"])
def test_a_choice_among_the_tools_is_taken(choice: str) -> None:
    check_options(Options(tools=[Tool("a"), Tool("b")], tool_choice=choice), ABLE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(tool_choice="none"), "options.tool_choice: expected options.tools, too, for 'none'"),
        (
            Options(tools=[Tool("a")], tool_choice="b"),
            "options.tool_choice: expected one of auto, none, required, a, got 'b'",
        ),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(options: Options, expected: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_options(options, ABLE)
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["direct", "rag", "self-consistency", "best-of-n"])
def test_what_a_job_says_of_sampling_reaches_the_model(name: str) -> None:
    options = Options(
        stop=["."], seed=7, logprobs=2, tools=[Tool("a")], tool_choice="a", max_tokens=9, rubric="sms", vote="codes"
    )
    steps = [
        step for one in PATTERNS.get(name).open(options) for step in (one.slip if isinstance(one, Scatter) else [one])
    ]
    (asked,) = [step for step in steps if isinstance(step, Generate)]
    assert (asked.stop, asked.seed, asked.logprobs, asked.tools, asked.max_tokens) == (["."], 7, 2, [Tool("a")], 9)
    assert asked.tool_choice == "a"


def test_options_that_have_sense_pass() -> None:
    check_options(Options(schema={"type": "object"}, temperature=0.7, n=64, model="noop"), load_catalogue())


def test_a_prompt_that_does_not_exist_is_refused_by_its_option() -> None:
    slip = PATTERNS.get("rag").open(Options(prompt="poem"))
    with pytest.raises(Rejected, match=r"options\.prompt: no such prompt 'poem'; known are .*rag"):
        check_slip(slip, PROMPTS)


def test_direct_renders_the_prompt_of_the_job_and_asks_for_its_schema() -> None:
    schema: dict[str, object] = {"type": "object"}
    direct = PATTERNS.get("direct")
    assert direct.open(Options(prompt="dispute", stream=True)) == [Render("dispute"), Generate(stream=True)]
    assert direct.open(Options(schema=schema)) == [Render("direct"), Generate(schema=schema)]
    assert kinds(direct.open(Options(session="s"))) == [Recall, Render, Generate, Remember]


def test_self_consistency_scatters_seven_warm_samples_and_votes() -> None:
    slip = PATTERNS.get("self-consistency").open(Options(prompt="icd-codes", vote="codes"))
    sample: list[AnyStep] = [Render("icd-codes"), Generate(temperature=0.7)]
    assert slip == [Scatter(slip=sample, over="samples", n=7), Judge("vote", key="codes")]
    few = PATTERNS.get("self-consistency").open(Options(n=3, temperature=0.0))[0]
    assert isinstance(few, Scatter)
    assert few.n == 3
    assert few.slip[1] == Generate(temperature=0.0)


def test_best_of_n_draws_twelve_variants_in_one_call_and_lets_a_rubric_pick() -> None:
    slip = PATTERNS.get("best-of-n").open(Options(prompt="collections-sms", rubric="sms"))
    assert slip == [Render("collections-sms"), Generate(n=12, temperature=0.9), Judge("rubric", rubric="sms")]
    assert PATTERNS.get("best-of-n").open(Options(n=4, rubric="sms"))[1] == Generate(n=4, temperature=0.9)


def test_best_of_n_without_a_rubric_is_refused() -> None:
    with pytest.raises(Rejected, match=r"options\.rubric: expected the name of a rubric, got none"):
        PATTERNS.get("best-of-n").open(Options())


REFLECT = PATTERNS.get("reflect")


def reviewed(*rendered: str, passed: bool) -> Item:
    """An item whose answer has just been critiqued."""
    return Item(
        n=0,
        input=Input(question="Draft a reply."),
        draft="The text.",
        answer=Answer('{"passed": false}', data={"passed": False}, prompt="vendor-risk-critique@1", model="large"),
        verdict=Verdict("critique", passed, findings=[] if passed else ["1: a promise"]),
        notes=[f"rendered={prompt}@1" for prompt in rendered],
    )


def decided(item: Item) -> list[str]:
    assert REFLECT.decide is not None
    return [step.prompt for step in REFLECT.decide(item, VENDOR) if isinstance(step, Render)]


VENDOR = Options(prompt="vendor-risk")
DRAFT, CRITIQUE, REVISE = "vendor-risk-draft", "vendor-risk-critique", "vendor-risk-revise"


def test_reflect_drafts_critiques_and_decides() -> None:
    slip = REFLECT.open(VENDOR)
    assert kinds(slip) == [Render, Generate, Render, Generate, Judge, Decide]
    assert [step.prompt for step in slip if isinstance(step, Render)] == [DRAFT, CRITIQUE]
    versioned = [step.prompt for step in REFLECT.open(Options(prompt="vendor-risk@1")) if isinstance(step, Render)]
    assert versioned == [f"{DRAFT}@1", f"{CRITIQUE}@1"]
    check_slip(slip, PROMPTS)


def test_reflect_revises_what_has_findings_twice_at_most() -> None:
    assert decided(reviewed(DRAFT, CRITIQUE, passed=True)) == []
    once = reviewed(DRAFT, CRITIQUE, passed=False)
    assert decided(once) == [REVISE, CRITIQUE]
    twice = reviewed(DRAFT, CRITIQUE, REVISE, CRITIQUE, passed=False)
    assert decided(twice) == [REVISE, CRITIQUE]
    assert decided(reviewed(DRAFT, CRITIQUE, REVISE, CRITIQUE, REVISE, CRITIQUE, passed=False)) == []
    assert decided(reviewed(DRAFT, CRITIQUE, REVISE, CRITIQUE, passed=True)) == []


def test_reflect_answers_with_the_text_and_not_with_its_critique() -> None:
    assert REFLECT.amend is not None
    for rendered, wrote in (((DRAFT, CRITIQUE), DRAFT), ((DRAFT, CRITIQUE, REVISE, CRITIQUE), REVISE)):
        answer = REFLECT.amend(reviewed(*rendered, passed=True), VENDOR).answer
        assert answer == Answer("The text.", prompt=f"{wrote}@1", model="large")


def test_map_reduce_summarises_sections_then_all_then_asks() -> None:
    map_reduce = PATTERNS.get("map-reduce")
    slip = map_reduce.open(Options())
    assert kinds(slip) == [Sections, Scatter, Render, Generate, Decide]
    assert isinstance(slip[1], Scatter)
    assert slip[1].over == "parts"
    assert slip[1].slip[0] == Render("section-summary")
    assert map_reduce.decide is not None
    asked = map_reduce.decide(Item(n=0, input=Input(question="Who may terminate?")), Options(stream=True))
    assert asked == [Render("final-answer"), Generate(stream=True)]
    check_slip(asked, PROMPTS)
    assert map_reduce.decide(Item(n=0), Options()) == []
    assert map_reduce.decide(Item(n=0), Options(schema={"type": "object"})) != []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Input(context="Long text."), None),
        (Input(document=DocumentRef("a.pdf", claim="c1")), None),
        (Input(question="Who?"), "document: expected a document (or a context) to read, got none"),
        (Input(document=DocumentRef("a.pdf")), "document: expected either a claim or a text, got neither"),
        (Input(question="x" * 40000, context="y"), "question: expected 0 to 32768 characters, got 40000"),
    ],
)
def test_map_reduce_needs_something_to_read(given: Input, expected: str | None) -> None:
    assert PATTERNS.get("map-reduce").check(given) == expected
