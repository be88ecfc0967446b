"""Finding the JSON in a model's text, checking it, and quoting what an answer cites."""

import pytest

from contracts.item import Input, Item, Message, Part, Passage, Quote
from services.generate_gpu.domain.citations import quotes
from services.generate_gpu.domain.completion import sources
from services.generate_gpu.domain.output import Invalid, checker, feedback, parsed
from shared.errors import ItemError

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"type": "object", "properties": {"code": {"enum": ["A", "B"]}}}},
        "note": {"type": ["string", "null"], "maxLength": 5},
    },
    "required": ["items"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "text",
    [
        '{"items": []}',
        ' \n{"items": []}\n',
        '```json\n{"items": []}\n```',
        '```\n{"items": []}\n```',
        'Sure.\n```json\n{"items": []}\n```\nBye.',
    ],
)
def test_json_is_found_as_a_whole_or_in_one_fence(text: str) -> None:
    assert parsed(text, checker(SCHEMA)) == {"items": []}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I think it is A.", "$: expected JSON, got 'I think it is A.'"),
        ('{"items": [', "$: expected JSON, got "),
        ('{"items": [{"code": "C"}]}', '$.items[0].code: expected one of ["A", "B"], got "C"'),
        ('{"items": {}}', "$.items: expected array, got {}"),
        ('{"items": [], "note": 3}', "$.note: expected string or null, got 3"),
        ('{"items": [], "note": "too long"}', '$.note: expected maxLength 5, got "too long"'),
        ("{}", "$: expected the fields items, which are missing"),
        ('{"items": [], "more": 1}', "$: expected no other fields, got"),
        ('{"items": NaN}', "NaN is not JSON"),
        ('```\n{"items": []}\n```\n```\n{"items": []}\n```', "$: expected JSON"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(text: str, reason: str) -> None:
    result = parsed(text, checker(SCHEMA))
    assert isinstance(result, Invalid)
    assert reason in str(result)


def test_a_long_value_is_cut_in_the_reason() -> None:
    result = parsed(f'{{"items": [], "note": "{"x" * 5000}"}}', checker(SCHEMA))
    assert len(str(result)) < 400


def test_a_schema_may_not_make_us_fetch_anything() -> None:
    remote: dict[str, object] = {"$ref": "http://127.0.0.1:9/schema.json"}
    with pytest.raises(ItemError, match="cannot resolve") as caught:
        parsed("{}", checker(remote))
    assert caught.value.code == "malformed"


def test_only_objects_and_arrays_are_data() -> None:
    assert isinstance(parsed("3", checker({})), Invalid)
    assert parsed("[3]", checker({})) == [3]


def test_the_feedback_of_the_repair_shows_answer_and_fault() -> None:
    asked = [Message("user", "Q")]
    messages = feedback(asked, "{bad}", Invalid("$.a", "expected {braces}"))
    assert messages[0] == asked[0]
    assert messages[1] == Message("assistant", "{bad}")
    assert "$.a: expected {braces}" in messages[2].content


PASSAGES = [
    Passage("a#0", "a", "Manual", "Staff may carry over five days. Unused days lapse in March.", clause="3.1", page=2),
    Passage("b#0", "b", "Plan", "It’s the members’ duty to ask.\nThe plan  covers\nphysiotherapy.", page=9),
]


def quoted(text: str) -> list[tuple[str, str]]:
    return [(quote.document, quote.text) for quote in quotes(text, PASSAGES)]


def test_words_in_quotation_marks_are_the_quote_where_the_passage_has_them() -> None:
    assert quoted('"carry over five days" [1]') == [("a", "carry over five days")]
    assert quoted("“plan covers physiotherapy” [2]") == [("b", "plan covers physiotherapy")]
    assert quoted("\"It's the members' duty\" [2]") == [("b", "It's the members' duty")]


def test_else_the_closest_sentence_of_the_passage_is_quoted() -> None:
    assert quoted("Unused days are lost in March [1].") == [("a", "Unused days lapse in March.")]
    assert quoted('The manual says "carry over ten days" [1]') == [("a", "Staff may carry over five days.")]


def test_citations_without_a_passage_or_without_a_shared_word_give_nothing() -> None:
    assert quoted("Unused days lapse [7]. Bananas [1].") == []
    assert quoted("Nothing is cited.") == []


def test_several_numbers_and_repeated_citations_count_once_each() -> None:
    text = "Unused days lapse and the plan covers physiotherapy [1, 2]. Again, unused days lapse [1]."
    assert [document for document, _ in quoted(text)] == ["a", "b"]
    first = quotes(text, PASSAGES)[0]
    assert first == Quote("Unused days lapse in March.", "a", "Manual", "a#0", "", "3.1", 2)


def test_a_reader_quotes_passages_else_parts_else_the_context() -> None:
    item = Item(n=0, input=Input(context="Given text."))
    assert [(passage.chunk, passage.text) for passage in sources(item)] == [("context#0", "Given text.")]
    place = Quote("A quote.", "d", "Doc", "d#4", "S", "4.2", 7)
    parts = [
        Part(0, "A quote.", quotes=[place]),
        Part(1, "The documents do not say."),
        Part(2, "A summary."),
    ]
    scattered = Item(n=0, input=item.input, parts=parts)
    assert sources(scattered) == [
        Passage("d#4", "d", "Doc", "A quote.", "S", "4.2", 7),
        Passage("part#2", "parts", "part 3", "A summary."),
    ]
    assert sources(Item(n=0, parts=parts, passages=PASSAGES)) == PASSAGES
    assert sources(Item(n=0)) == []
