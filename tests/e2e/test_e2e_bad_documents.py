"""Documents that cannot be read: each fails with its name and what was expected; the good one beside it is read."""

import io
import zipfile
from collections.abc import Sequence

import pytest
from fpdf import FPDF

from client.client import Penstock
from contracts.item import DocumentRef, Input
from contracts.job import ItemResult
from e2e.running import Running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

CONTENT_TYPES = (
    b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    b'<Default Extension="xml" ContentType="application/xml"/></Types>'
)


def pdf(password: str = "") -> bytes:
    paper = FPDF()
    paper.add_page()
    paper.set_font("Helvetica", size=11)
    paper.multi_cell(0, 6, "1 Scope\nThe kettle boils a litre of water in three minutes.")
    if password:
        paper.set_encryption(owner_password="owner", user_password=password)
    return bytes(paper.output())


def bomb() -> bytes:
    """A DOCX of some 300 KB whose text expands to 300 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", CONTENT_TYPES)
        with archive.open("word/document.xml", "w", force_zip64=True) as text:
            for _ in range(300):
                text.write(bytes(1 << 20))
    return buffer.getvalue()


async def ingest(penstock: Penstock, files: Sequence[tuple[str, bytes]]) -> dict[str, ItemResult]:
    claims = [await penstock.upload(content) for _, content in files]
    items = [
        Input(id=name, document=DocumentRef(name=name, claim=claim))
        for (name, _), claim in zip(files, claims, strict=True)
    ]
    report = await penstock.report(await penstock.submit("ingest", items), timeout_s=90)
    results = [item async for shard in penstock.stored_results(report.job) for item in shard.items]
    return {result.id: result for result in results}


async def test_each_bad_document_is_named_with_what_was_expected_and_the_good_one_is_read(
    penstock: Penstock, stack: Running
) -> None:
    found = await ingest(
        penstock,
        [
            ("kettle.pdf", pdf()),
            ("corrupt.pdf", pdf()[:400]),
            ("encrypted.pdf", pdf("secret")),
            ("bomb.docx", bomb()),
            ("latin.txt", b"Caf\xe9 au lait"),
            ("huge.txt", b"All work and no play. " * (50 * (1 << 20) // 22)),
            ("empty.md", b""),
            ("picture.pdf", b"\x89PNG\r\n\x1a\n" + bytes(100)),
            ("table.xlsx", b"PK\x03\x04"),
        ],
    )
    reasons = {name: (result.failure.code, result.failure.reason) for name, result in found.items() if result.failure}
    assert {name for name, result in found.items() if result.document} == {"kettle.pdf"}
    for name, (_, reason) in reasons.items():
        assert reason.startswith(f"{name}: ")
        assert "\n" not in reason
    assert "corrupt PDF" in reasons["corrupt.pdf"][1]
    assert reasons["encrypted.pdf"][1].endswith("the PDF is encrypted; expected one that opens without a password")
    assert reasons["bomb.docx"][0] == "too_large"
    assert "not valid UTF-8 at byte 3 (0xe9); expected UTF-8" in reasons["latin.txt"][1]
    assert reasons["huge.txt"] == ("too_large", "huge.txt: 52,428,794 bytes; at most 33,554,432 are read")
    assert "expected a PDF" in reasons["picture.pdf"][1]
    assert "expected one of csv, docx, htm" in reasons["table.xlsx"][1]
    assert {code for name, (code, _) in reasons.items() if name not in ("bomb.docx", "huge.txt")} == {"unreadable"}

    result = await penstock.ask("How long does the kettle need to boil a litre of water?")
    assert result.answer is not None
    assert "three minutes" in result.answer.text
    assert "Traceback" not in stack.log("ingest")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Input(), "items[0].document: expected an object with the file's name and its claim or text, got none"),
        (
            Input(document=DocumentRef(name="a.txt")),
            "items[0].document: expected either a claim or a text, got neither",
        ),
        (
            Input(document=DocumentRef(name="a.txt", claim="x", text="y")),
            "items[0].document: expected either a claim or a text, got both",
        ),
        (Input(document=DocumentRef(name="a.txt", claim="gone")), "a.txt: "),
        (Input(document=DocumentRef(name="a.pdf", text="words")), "a.pdf: text was given where a PDF needs its bytes"),
        (
            Input(document=DocumentRef(name="a.txt", text="x", id="no.id")),
            "document.id: expected 1–64 letters, digits, - and _, got 'no.id'",
        ),
    ],
)
async def test_a_reference_to_a_document_that_cannot_be_names_the_field(
    penstock: Penstock, item: Input, reason: str
) -> None:
    report = await penstock.report(await penstock.submit("ingest", [item]), timeout_s=30)
    assert report.failed == 1
    assert reason in report.failures[0].reason


async def test_a_document_of_fifty_megabytes_for_map_reduce_is_refused_too(penstock: Penstock) -> None:
    claim = await penstock.upload(b"All work and no play. " * (50 * (1 << 20) // 22))
    item = Input(question="Why?", document=DocumentRef(name="huge.txt", claim=claim))
    report = await penstock.report(await penstock.submit("map-reduce", [item]), timeout_s=60)
    assert [failure.code for failure in report.failures] == ["too_large"]
    assert report.failures[0].reason.startswith("huge.txt: 52,428,794 bytes")
