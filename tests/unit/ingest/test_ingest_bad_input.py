"""Each bad document gets one sentence that names the file and what was expected."""

import zipfile
from io import BytesIO

import pytest
from docx.document import Document as Word
from files import LIMITS, archive, lines, pdf, reading, word
from fpdf import FPDF
from msgspec.structs import replace

from contracts.item import DocumentRef
from services.ingest.adapters.reading import read
from services.ingest.domain.identity import document_id
from shared.errors import ItemError


def refused(name: str, content: bytes | str, code: str = "unreadable") -> str:
    with pytest.raises(ItemError) as caught:
        reading(name, content)
    assert caught.value.code == code
    assert str(caught.value).startswith(name)
    return str(caught.value)


def booklet(password: str = "") -> bytes:
    return pdf(lambda paper: lines(paper, "The plan covers physiotherapy."), password=password)


def test_a_document_that_is_too_large() -> None:
    with pytest.raises(ItemError, match=r"^big\.txt: 52,428,800 bytes; at most 33,554,432 are read$") as caught:
        reading("big.txt", b"x" * (50 << 20))
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("content", [b"", b" \n\t "])
def test_an_empty_document(content: bytes) -> None:
    assert refused("a.txt", content) == "a.txt: the document is empty"


def test_an_unknown_format_names_the_known_ones() -> None:
    assert "unknown format; expected one of csv, docx, htm" in refused("a.xlsx", b"PK\x03\x04")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pdf", b"Just text", "expected a PDF (it begins with %PDF-), but the content is text"),
        ("a.txt", b"%PDF-1.7\n", "expected plain text, but the content is a PDF"),
        ("a.md", b"PK\x03\x04....", "expected Markdown text, but the content is a zip archive"),
        ("a.html", b"\x89PNG\r\n", "expected HTML text, but the content is a PNG picture"),
        ("a.csv", b"a,b\n\0\0\0", "expected CSV text, but the content is binary data"),
        ("a.docx", b"Just text", "expected a DOCX (a zip archive), but the content is text"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or encrypted Office file"),
        ("mystery", b"PK\x03\x04....", "unknown format, the content is a zip archive"),
    ],
)
def test_suffix_and_content_that_do_not_agree(name: str, content: bytes, reason: str) -> None:
    assert reason in refused(name, content)


def test_text_given_for_a_format_that_is_not_text() -> None:
    with pytest.raises(ItemError, match=r"a\.pdf: text was given where a PDF needs its bytes"):
        read("a.pdf", b"words", True, LIMITS)


# Encodings


def test_invalid_utf8_names_the_byte() -> None:
    assert refused("a.txt", b"Caf\xe9 au lait") == (
        "a.txt: not valid UTF-8 at byte 3 (0xe9); expected UTF-8, or UTF-16 with a byte order mark"
    )


@pytest.mark.parametrize("name", ["a.md", "a.csv", "a.html"])
def test_invalid_utf8_in_other_text_formats(name: str) -> None:
    assert "at byte 6 (0xff)" in refused(name, b"<p>a,b\xff\n1,2")


def test_truncated_utf16() -> None:
    assert "not valid UTF-16-LE" in refused("a.txt", b"\xff\xfea\0b")


def test_nul_characters_in_text() -> None:
    assert "NUL at character 5000" in refused("a.txt", b"x" * 5000 + b"\0")


def test_an_unknown_charset_that_a_page_declares() -> None:
    assert "declares the charset 'klingon', which is not known" in refused("a.html", "<meta charset=klingon><p>é</p>")


# PDF


def test_a_corrupt_pdf() -> None:
    assert refused("a.pdf", b"%PDF-1.7\nnothing of the kind") == "a.pdf: a corrupt PDF, its structure cannot be read"


def test_a_pdf_that_was_cut_off() -> None:
    assert "corrupt PDF" in refused("a.pdf", booklet()[:300])


def test_an_encrypted_pdf() -> None:
    assert refused("a.pdf", booklet("secret")) == (
        "a.pdf: the PDF is encrypted; expected one that opens without a password"
    )


def test_a_scan_without_text() -> None:
    def picture(paper: FPDF) -> None:
        from PIL import Image

        paper.image(Image.new("RGB", (60, 80), "white"), w=100)

    assert "no text, only pictures (a scan)" in refused("a.pdf", pdf(picture))


def test_a_pdf_of_empty_pages() -> None:
    assert refused("a.pdf", pdf(lambda paper: None)) == "a.pdf: the PDF is empty, 1 pages without text"


# DOCX


def test_a_zip_archive_that_is_no_docx() -> None:
    assert "a zip archive without word/document.xml; expected a DOCX" in refused("a.docx", archive([("a.txt", b"x")]))


def test_a_damaged_docx() -> None:
    whole = word(lambda document: document.add_paragraph("Words"))
    assert "damaged DOCX" in refused("a.docx", whole[: len(whole) // 2])


def test_a_docx_whose_xml_is_broken() -> None:
    whole = BytesIO(word(lambda document: document.add_paragraph("Words")))
    with zipfile.ZipFile(whole) as source:
        files = [(name, source.read(name)) for name in source.namelist()]
    broken = [(name, b"<w:document" if name == "word/document.xml" else content) for name, content in files]
    assert "damaged DOCX" in refused("a.docx", archive(broken))


def test_a_zip_bomb_is_refused_before_it_is_expanded() -> None:
    bomb = archive([("word/document.xml", b"\0" * (40 << 20))])
    assert len(bomb) < 100_000
    assert "expands more than 200-fold, as a zip bomb does" in refused("a.docx", bomb, "too_large")


def test_a_docx_that_expands_beyond_the_limit() -> None:
    def fill(document: Word) -> None:
        document.add_paragraph("".join(chr(97 + (i * i) % 26) for i in range(200_000)))

    with pytest.raises(ItemError, match=r"a\.docx: expands to [\d,]+ bytes; at most 100,000 are read") as caught:
        reading("a.docx", word(fill), replace(LIMITS, expanded=100_000))
    assert caught.value.code == "too_large"


def test_a_docx_that_lies_about_its_size() -> None:
    whole = bytearray(archive([("word/document.xml", b"\0" * 300_000)]))
    for marker in (b"PK\x03\x04", b"PK\x01\x02"):
        at = whole.index(marker) + (22 if marker == b"PK\x03\x04" else 24)
        whole[at : at + 4] = (1000).to_bytes(4, "little")
    assert "damaged DOCX" in refused("a.docx", bytes(whole))


def test_a_docx_with_entities_that_multiply() -> None:
    entities = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + b"".join(
        b"<!ENTITY a%d '%s'>" % (i, b"&a%d;" % (i - 1) * 10 if i > 1 else b"&a;" * 10) for i in range(1, 9)
    )
    whole = BytesIO(word(lambda document: document.add_paragraph("Words")))
    with zipfile.ZipFile(whole) as source:
        files = {name: source.read(name) for name in source.namelist()}
    xml = files["word/document.xml"].replace(b"Words", b"&a8;").split(b"?>", 1)
    files["word/document.xml"] = xml[0] + b"?>" + entities + b"]>" + xml[1]
    assert "damaged DOCX" in refused("a.docx", archive(list(files.items())))


# CSV


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("BW-1,Sensor,84.50\nBW-2,Cable,4.80\n", "the first row holds '84.50'; expected a header with column names"),
        ("sku,,price\n1,2,3\n", "the header names no column 2"),
        ("sku,price,sku\n1,2,3\n", "the header names 'sku' twice"),
        ("sku,price\n", "only a header; expected at least one row below it"),
    ],
)
def test_csv_without_a_proper_header(content: str, reason: str) -> None:
    assert reason in refused("a.csv", content)


def test_ragged_csv_rows_name_the_line() -> None:
    assert refused("a.csv", 'a,b\n1,"x\ny"\n1,2,3\n') == "a.csv, line 4: expected 2 fields as in the header, got 3"


def test_csv_with_an_open_quote() -> None:
    assert "not valid CSV" in refused("a.csv", 'a,b\n1,"never closed\n')


# HTML


def test_html_without_a_tag() -> None:
    assert refused("a.html", "Just words.") == "a.html: no HTML tag in it; expected an HTML page"


def test_html_with_only_navigation() -> None:
    assert refused("a.html", "<html><nav>Menu</nav></html>") == "a.html: no text in it"


@pytest.mark.parametrize("depth", [600, 100_000])
def test_html_that_is_nested_too_deeply(depth: int) -> None:
    assert "nested deeper than" in refused("a.html", "<div>" * depth + "x")


def test_html_with_many_unclosed_paragraphs_is_fine() -> None:
    assert len(reading("a.html", "<p>line" * 20_000).blocks) == 20_000


# References


@pytest.mark.parametrize("id_", ["a b", "a.b", "ä", "x" * 65, "a/b"])
def test_an_id_that_no_subject_can_hold(id_: str) -> None:
    with pytest.raises(ItemError, match=r"^document\.id: expected 1–64 letters, digits, - and _") as caught:
        document_id(DocumentRef("a.txt", id=id_))
    assert caught.value.code == "malformed"
