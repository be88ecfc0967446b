"""What counts as the number of a clause, and what only looks like one."""

import pytest

from services.ingest.domain.clauses import find_mark, follows, is_title, item_letter, run_in_title


@pytest.mark.parametrize(
    ("text", "clause", "depth"),
    [
        ("4.2 Physiotherapy after surgery", "4.2", 2),
        ("4.2. Physiotherapy", "4.2", 2),
        ("4. Therapy", "4", 1),
        ("4 Therapy", "4", 1),
        ("10.1.3 Services that need it", "10.1.3", 3),
        ('1.8 "Bulk Vehicle Gel" means the product gel.', "1.8", 2),
        ("4.2(a) After surgery", "4.2(a)", 3),
        ("4.2 – Physiotherapy", "4.2", 2),
        ("Section 4.2 Physiotherapy", "4.2", 2),
        ("SECTION 4.2: PHYSIOTHERAPY", "4.2", 2),
        ("Section 1.01. Definitions. As used in this Agreement, the terms have these meanings.", "1.01", 2),
        ("§ 4.2 Physiotherapy", "4.2", 2),
        ("§4 Therapy", "4", 1),
        ("Article IV", "Article IV", 0),
        ("ARTICLE 2 SUPPLY OF PRODUCTS", "Article 2", 0),
        ("Appendix B Prices", "Appendix B", -1),
        ("SCHEDULE 2.7", "Schedule 2.7", -1),
        ("Exhibit A-1: Form of notice", "Exhibit A-1", -1),
    ],
)
def test_numbers_of_clauses(text: str, clause: str, depth: int) -> None:
    mark = find_mark(text)
    assert mark is not None
    assert (mark.clause, mark.depth) == (clause, depth)


@pytest.mark.parametrize(
    "text",
    [
        "4.2 of the agreement remains in force",
        "Section 4.2 of the agreement remains in force.",
        "Articles are sold as they are.",
        "2025 Benefits",
        "12 months after the operation",
        "3.5 mg a day",
        "4.2",
        "The plan covers 4.2 Physiotherapy",
        "Part of the plan is a booklet that describes what is covered and what is not covered by it.",
        "",
    ],
)
def test_what_is_no_clause(text: str) -> None:
    assert find_mark(text) is None


@pytest.mark.parametrize(
    ("rest", "title"),
    [
        ("Definitions. As used in this Agreement, terms have these meanings.", "Definitions"),
        ("Retention and Compensation of Agent. Subject to the terms", "Retention and Compensation of Agent"),
        ("LIMITATION OF LIABILITY. NEITHER PARTY SHALL BE LIABLE", "LIMITATION OF LIABILITY"),
        ("Audit.", "Audit"),
        ("The plan covers physiotherapy. Each visit costs $25.", ""),
        ('"Agreement" has the meaning of the preamble. It', ""),
    ],
)
def test_titles_that_run_into_the_text(rest: str, title: str) -> None:
    assert run_in_title(rest) == title


def test_items_and_their_order() -> None:
    assert [item_letter(text) for text in ("(a) first", "b. second", "C) third", "(ii) nested", "a word")] == [
        "a",
        "b",
        "C",
        "ii",
        "",
    ]
    assert follows("a", "")
    assert follows("i", "h")
    assert not follows("i", "a")
    assert not follows("b", "")


def test_a_title_is_short_and_does_not_end_like_a_sentence() -> None:
    assert is_title("Physiotherapy after surgery")
    assert not is_title("The plan covers it.")
    assert not is_title(" ".join(["word"] * 13))
