"""Each format, read from small real files."""

import pytest
from docx.document import Document as Word
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from files import chunks, lines, pdf, reading, texts, word
from fpdf import FPDF

from contracts.item import DocumentRef
from services.ingest.domain.identity import document_id, revision, title


def rows(found: list[str]) -> list[str]:
    return [text for text in found if ": " in text]


# Markdown


def test_markdown_headings_lists_and_tables() -> None:
    found = reading(
        "a.md",
        "---\ntitle: Manual\n---\n# Manual\n\nFor **all** [employees](x).\n\n## 2 Leave\n\n- one\n- two `code`\n\n"
        "1. first\n2. second\n\n"
        "| Occasion | Days |\n| --- | --- |\n| Wedding | 2 |\n| Moving | 1 |\n\n<!-- hidden -->\n\n```\nx = 1\n```\n",
    )
    assert found.title == "Manual"
    assert texts(found) == [
        "Manual",
        "For all employees.",
        "2 Leave",
        "- one",
        "- two code",
        "1. first",
        "2. second",
        "Occasion: Wedding; Days: 2",
        "Occasion: Moving; Days: 1",
        "x = 1",
    ]
    assert [(block.kind, block.level) for block in found.blocks[:3]] == [("heading", 1), ("text", 0), ("heading", 2)]


def test_numbers_of_a_markdown_list_are_no_clauses() -> None:
    found = chunks("a.md", "## 4.2 Steps\n\n1. Ask.\n2. Wait.\n")
    assert [(chunk.clause, chunk.text) for chunk in found] == [("4.2", "4.2 Steps\n\n1. Ask.\n\n2. Wait.")]


# HTML


def test_html_without_what_is_not_read_on_the_page() -> None:
    found = reading(
        "a.html",
        "<html><head><title>T</title><style>p{}</style></head><body><nav>Menu</nav><script>alert(1)</script>"
        "<h1>Security</h1><p>First<br>line.</p><div>Loose text <b>bold</b><p>Second.</p>after</div>"
        "<ul><li>One</li><li>Two <i>more</i></li></ul><p hidden>secret</p><footer>Foot</footer></body></html>",
    )
    assert texts(found) == ["Security", "First", "line.", "Loose text bold", "Second.", "after", "- One", "- Two more"]
    assert found.title == "Security"


def test_html_tables_are_rows_with_their_names() -> None:
    found = reading(
        "a.html",
        "<table><caption>Prices</caption><tr><th>Name<th>Price<th>Unit</tr><tr><td rowspan=2>Sensor<td>84<td>piece</tr>"
        "<tr><td>92<td>set</tr><tr><td colspan=3>Cables</td></tr><tr><td>M12</td><td colspan=2>4.80</td></tr></table>"
        "<table><tr><td>Phone:</td><td>4400</td></tr></table>",
    )
    assert texts(found) == [
        "Prices",
        "Name: Sensor; Price: 84; Unit: piece",
        "Name: Sensor; Price: 92; Unit: set",
        "Cables",
        "Name: M12; Price: 4.80; Unit: 4.80",
        "Phone: 4400",
    ]


def test_html_in_the_charset_that_it_declares() -> None:
    page = "<html><meta charset='iso-8859-1'><p>Café</p></html>".encode("iso-8859-1")
    assert texts(reading("a.html", page)) == ["Café"]


# DOCX


def test_docx_headings_tables_and_title() -> None:
    def fill(document: Word) -> None:
        document.add_heading("Guide", level=0)
        document.add_heading("1 Arrival", level=1)
        document.add_paragraph("Report to the gatehouse.")
        table = document.add_table(rows=0, cols=2)
        for cells in (("Room", "Seats"), ("Amber", "8"), ("Basalt", "14")):
            for cell, text in zip(table.add_row().cells, cells, strict=True):
                cell.text = text
        document.add_paragraph("Rooms are booked.")

    found = reading("a.docx", word(fill, title="Site guide"))
    assert found.title == "Site guide"
    assert texts(found) == [
        "Guide",
        "1 Arrival",
        "Report to the gatehouse.",
        "Room: Amber; Seats: 8",
        "Room: Basalt; Seats: 14",
        "Rooms are booked.",
    ]


def test_docx_numbers_that_word_counts_by_itself() -> None:
    def fill(document: Word) -> None:
        levels = (("decimal", "%1."), ("decimal", "%1.%2"), ("lowerLetter", "(%3)"))
        _add_numbering(document, levels)
        for depth, text in (
            (0, "Term"),
            (1, "It begins."),
            (1, "It ends:"),
            (2, "by notice;"),
            (2, "by law."),
            (0, "Law"),
        ):
            _number(document.add_paragraph(text), depth)

    found = reading("a.docx", word(fill))
    assert texts(found) == ["1. Term", "1.1 It begins.", "1.2 It ends:", "(a) by notice;", "(b) by law.", "2. Law"]


def _add_numbering(document: Word, levels: tuple[tuple[str, str], ...]) -> None:
    root = document.part.numbering_part.element
    abstract = OxmlElement("w:abstractNum")
    abstract.set(qn("w:abstractNumId"), "90")
    for depth, (style, text) in enumerate(levels):
        level = OxmlElement("w:lvl")
        level.set(qn("w:ilvl"), str(depth))
        for name, value in (("w:start", "1"), ("w:numFmt", style), ("w:lvlText", text)):
            child = OxmlElement(name)
            child.set(qn("w:val"), value)
            level.append(child)
        abstract.append(level)
    root.insert(0, abstract)
    number = OxmlElement("w:num")
    number.set(qn("w:numId"), "90")
    link = OxmlElement("w:abstractNumId")
    link.set(qn("w:val"), "90")
    number.append(link)
    root.append(number)


def _number(paragraph: object, depth: int) -> None:
    place = paragraph._p.get_or_add_pPr().get_or_add_numPr()  # type: ignore[attr-defined]  # no public way in python-docx
    place.get_or_add_ilvl().val = depth
    place.get_or_add_numId().val = 90


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_rows_carry_their_column_names(delimiter: str) -> None:
    table = [["sku", "name", "price"], ["BW-1", 'Sensor "S", large', "84.50"], ["", "", ""], ["BW-2", "Cable", ""]]
    text = "\n".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in table)
    assert texts(reading("a.csv", text)) == [
        'sku: BW-1; name: Sensor "S", large; price: 84.50',
        "sku: BW-2; name: Cable",
    ]


def test_csv_with_years_as_column_names() -> None:
    assert texts(reading("a.csv", "country,2023,2024\nMalta,5,6\n")) == ["country: Malta; 2023: 5; 2024: 6"]


# Text


def test_text_mends_wrapped_lines_and_page_breaks() -> None:
    text = (
        "Policy of Leave\n\nUp to five days of unused leave carry\nover to the next year, whatever the rea-\n"
        "son may be, and they are taken until the end\n\n3\n\n\n\nof March of the following year.\n\n"
        "1. First clause.\n2. Second clause.\n"
    )
    assert texts(reading("a.txt", text)) == [
        "Policy of Leave",
        "Up to five days of unused leave carry over to the next year, whatever the reason may be, and they are taken "
        "until the end of March of the following year.",
        "1. First clause.",
        "2. Second clause.",
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_soft_hyphens_are_left_out(name: str) -> None:
    assert texts(
        reading(name, "<p>phys\u00adio\u00adtherapy visits" if name == "a.html" else "phys\u00adiotherapy visits")
    ) == ["physiotherapy visits"]


def test_text_leaves_out_running_lines_and_the_table_of_contents() -> None:
    page = "\n\nACME INC., 8-K, 10/1/2018\n\n\n\n"
    text = (
        "SUPPLY AGREEMENT\n\nTABLE OF CONTENTS\n\nARTICLE 1 TERM 2\n\n1.1 Begin 2 1.2 End 3\n\nARTICLE 1 TERM\n\n"
        f"1.1 Begin. It begins now.{page}1.2 End. It ends later.{page}1.3 Renewal. It is renewed.{page}"
        f"1.4 Law. Utah.{page}"
    )
    found = chunks("a.txt", text)
    assert [(chunk.clause, chunk.text) for chunk in found] == [
        ("1.1", "1.1 Begin. It begins now."),
        ("1.2", "1.2 End. It ends later."),
        ("1.3", "1.3 Renewal. It is renewed."),
        ("1.4", "1.4 Law. Utah."),
    ]
    assert reading("a.txt", text).title == "SUPPLY AGREEMENT"


def test_utf8_and_utf16_with_byte_order_marks() -> None:
    for content in ("Größe: 5 µm".encode("utf-8-sig"), "Größe: 5 µm".encode("utf-16"), "Größe: 5 µm".encode()):
        assert texts(reading("a.txt", content)) == ["Größe: 5 µm"]


# PDF


def test_pdf_pages_headings_and_clauses() -> None:
    def write(paper: FPDF) -> None:
        lines(paper, "Benefits 2025", size=22, style="B")
        lines(paper, "4 Therapy", size=15, style="B")
        lines(paper, "4.2 Physiotherapy", style="B")
        lines(paper, "The plan covers physiotherapy after surgery. Each visit costs $25.")
        paper.add_page()
        lines(paper, "4.3 Speech therapy", style="B")
        lines(paper, "Thirty visits are covered.")

    found = chunks("a.pdf", pdf(write))
    assert [(chunk.clause, chunk.section, chunk.page) for chunk in found] == [
        ("4.2", "4 Therapy › 4.2 Physiotherapy", 1),
        ("4.3", "4 Therapy › 4.3 Speech therapy", 2),
    ]
    assert reading("a.pdf", pdf(write)).title == "Benefits 2025"
    assert reading("a.pdf", pdf(write)).pages == 2


def test_pdf_running_headers_and_footers_are_left_out() -> None:
    def write(paper: FPDF) -> None:
        for number in range(5):
            lines(paper, f"On this page rule {number} is explained.")
            if number < 4:
                paper.add_page()

    found = texts(reading("a.pdf", pdf(write, header="Northgate | Benefits", footer="Page {page} of 5")))
    assert found == [f"On this page rule {number} is explained." for number in range(5)]


def test_pdf_rows_that_begin_pages_are_no_running_lines() -> None:
    def write(paper: FPDF) -> None:
        for page in range(4):
            lines(paper, f"Row {page * 17} of the list.", f"Row {page * 17 + 1} of the list.")
            paper.add_page()
        lines(paper, "The end of it all.")

    found = texts(reading("a.pdf", pdf(write, header="Northgate, page {page} of 5")))
    everything = " ".join(found)
    assert all(f"Row {page * 17 + row} of the list." in everything for page in range(4) for row in range(2))
    assert "Northgate" not in everything


def test_pdf_headers_of_short_chapters_are_left_out_and_titles_of_exhibits_are_not() -> None:
    headers = ["Chapter 1: Term", "Chapter 1: Term", "Chapter 2: Law", "Chapter 2: Law", "", "", ""]

    def write(paper: FPDF) -> None:
        for number, name in enumerate(headers, start=1):
            lines(paper, *([f"{name} {number}"] if name else [f"Exhibit {number - 4}"]))
            paper.ln(15)
            lines(paper, f"What stands on this page is explained by rule {number * 7}.")
            if number < len(headers):
                paper.add_page()

    found = texts(reading("a.pdf", pdf(write, footer="{page}")))
    assert not any("Chapter" in text for text in found)
    assert [text for text in found if "Exhibit" in text] == ["Exhibit 1", "Exhibit 2", "Exhibit 3"]
    assert len(found) == 10


def test_pdf_bullets_and_code_in_smaller_letters_do_not_cut_a_paragraph() -> None:
    def write(paper: FPDF) -> None:
        for item in ("globs", "magic"):
            paper.set_font("Helvetica", size=8)
            paper.cell(4, 5.5, "-")
            paper.set_font("Courier", size=9)
            paper.cell(20, 5.5, item)
            paper.set_font("Helvetica", size=11)
            paper.cell(
                0, 5.5, "holds a table of names and of the types of files that have", new_x="LMARGIN", new_y="NEXT"
            )
            paper.set_x(29)
            paper.cell(0, 5.5, "these names", new_x="LMARGIN", new_y="NEXT")
        lines(paper, "The form of both is explained in the section that follows. It is the same for both of them.")

    found = texts(reading("a.pdf", pdf(write)))
    assert found[0] == "- globs holds a table of names and of the types of files that have these names"
    assert found[1] == "- magic holds a table of names and of the types of files that have these names"
    assert found[2].startswith("The form of both")


def test_pdf_paragraphs_are_joined_over_lines_and_pages() -> None:
    sentence = "The plan covers physiotherapy after surgery and it does so for every member who has had an operation, "

    def write(paper: FPDF) -> None:
        lines(paper, *["Some other rule of the plan stands here."] * 28)
        lines(paper, sentence * 9 + "and that is all.")

    found = reading("a.pdf", pdf(write, header="Northgate", footer="{page}"))
    last = found.blocks[-1]
    assert last.text == " ".join((sentence * 9 + "and that is all.").split())
    assert (last.page, last.page_end) == (1, 2)


def test_pdf_hyphenation_is_mended_and_compounds_keep_their_hyphen() -> None:
    def write(paper: FPDF) -> None:
        lines(paper, "Out-of-network care and in-network care are different things.")
        lines(paper, "The plan pays for physio-\ntherapy and for in-\nnetwork visits of recon-\nstruction.")

    assert texts(reading("a.pdf", pdf(write)))[-1] == (
        "The plan pays for physiotherapy and for in-network visits of reconstruction."
    )


def test_pdf_tables_are_rows_also_with_wrapped_cells_and_over_pages() -> None:
    table = [("Service", "In network", "Limit")]
    table += [
        (f"Therapy number {i} after a long and difficult operation", "$25 copay", f"{i} visits a year")
        for i in range(40)
    ]

    def write(paper: FPDF) -> None:
        lines(paper, "The table shows what is paid.")
        with paper.table(col_widths=(40, 30, 30)) as grid:
            for cells in table:
                grid.row(cells)

    found = reading("a.pdf", pdf(write))
    assert rows(texts(found)) == [f"Service: {a}; In network: {b}; Limit: {c}" for a, b, c in table[1:]]
    assert found.pages > 1
    assert [block.page for block in found.blocks][-1] == found.pages


def test_pdf_clause_numbers_beside_their_text_are_no_table() -> None:
    def write(paper: FPDF) -> None:
        paper.set_font("Helvetica", size=11)
        for number in range(1, 6):
            paper.cell(25, 6, f"4.{number}")
            paper.multi_cell(
                0, 6, f"Rule {number} says that the plan covers this and that.", new_x="LMARGIN", new_y="NEXT"
            )

    found = chunks("a.pdf", pdf(write))
    assert [(chunk.clause, chunk.text) for chunk in found] == [
        (f"4.{n}", f"4.{n} Rule {n} says that the plan covers this and that.") for n in range(1, 6)
    ]


def test_pdf_columns_are_read_one_after_the_other() -> None:
    left = "The left column tells of the plan and of what it covers for every member. " * 6
    right = "The right column tells of claims and of how they are appealed by anybody. " * 6

    def write(paper: FPDF) -> None:
        paper.set_font("Helvetica", size=10)
        with paper.text_columns(ncols=2, gutter=10) as columns:
            columns.write(left)
            columns.new_column()
            columns.write(right)

    found = " ".join(texts(reading("a.pdf", pdf(write))))
    assert found.index("appealed by anybody.") > found.rindex("for every member.")


def test_pdf_tables_of_contents_are_left_out() -> None:
    def write(paper: FPDF) -> None:
        lines(paper, "1 Term " + "." * 60 + " 2", "2 Law " + "." * 60 + " 3")
        paper.add_page()
        lines(paper, "1. Term. It begins now.", "2. Law. Utah.")

    assert [chunk.text for chunk in chunks("a.pdf", pdf(write))] == ["1. Term. It begins now.", "2. Law. Utah."]


# Identity


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("HMO-483 Benefits 2025.pdf", "hmo-483-benefits-2025-pdf"),
        ("policy.md", "policy-md"),
        ("policy.pdf", "policy-pdf"),
        ("folder/policy.md", "folder-policy-md"),
    ],
)
def test_the_id_is_a_slug_of_the_name(name: str, id_: str) -> None:
    assert document_id(DocumentRef(name)) == id_


def test_names_that_a_slug_cannot_hold_stay_different() -> None:
    ids = {
        document_id(DocumentRef(name))
        for name in ("合同.pdf", "报告.pdf", "a" * 80 + ".txt", "a" * 81 + ".txt", "Größe.md")
    }
    assert len(ids) == 5
    assert all(0 < len(id_) <= 64 for id_ in ids)


def test_the_revision_changes_with_content_name_title_and_metadata() -> None:
    refs = [
        DocumentRef("a.txt"),
        DocumentRef("b.txt"),
        DocumentRef("a.txt", title="T"),
        DocumentRef("a.txt", metadata={"k": "v"}),
    ]
    revisions = {revision(ref, b"x") for ref in refs} | {revision(refs[0], b"y")}
    assert len(revisions) == 5
    assert revision(DocumentRef("a.txt"), b"x") == revision(DocumentRef("a.txt"), b"x")


def test_the_title_is_the_given_one_else_the_found_one_else_the_name() -> None:
    assert title(DocumentRef("a.pdf", title="Given"), "Found") == "Given"
    assert title(DocumentRef("a.pdf"), "Found\n it") == "Found it"
    assert title(DocumentRef("Price list 2025.csv"), "") == "Price list 2025"
