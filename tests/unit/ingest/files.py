"""Small real files for the tests of ingest."""

import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO

import docx
from fpdf import FPDF

from contracts.documents import Chunk
from services.ingest.adapters.limits import Limits
from services.ingest.adapters.reading import read
from services.ingest.domain.blocks import Reading
from services.ingest.domain.chunks import cut

LIMITS = Limits()


def reading(name: str, content: bytes | str, limits: Limits = LIMITS) -> Reading:
    return read(name, content.encode() if isinstance(content, str) else content, False, limits)


def chunks(name: str, content: bytes | str) -> list[Chunk]:
    return cut("doc", reading(name, content))


def texts(found: Reading) -> list[str]:
    return [block.text for block in found.blocks]


def pdf(write: Callable[[FPDF], None], *, header: str = "", footer: str = "", password: str = "") -> bytes:
    """A PDF whose pages `write` fills; running lines may hold {page}."""

    class Paper(FPDF):
        def header(self) -> None:
            self.set_font("Helvetica", size=8)
            if header:
                self.cell(0, 5, header.format(page=self.page_no()), new_x="LMARGIN", new_y="NEXT")
                self.ln(5)

        def footer(self) -> None:
            self.set_y(-15)
            self.set_font("Helvetica", size=8)
            if footer:
                self.cell(0, 5, footer.format(page=self.page_no()))

    paper = Paper()
    paper.set_margin(25)
    paper.set_auto_page_break(True, margin=25)
    paper.add_page()
    paper.set_font("Helvetica", size=11)
    write(paper)
    if password:
        paper.set_encryption(owner_password="owner", user_password=password)
    return bytes(paper.output())


def lines(paper: FPDF, *paragraphs: str, size: float = 11, style: str = "") -> None:
    paper.set_font("Helvetica", style, size)
    for paragraph in paragraphs:
        paper.multi_cell(0, size * 0.5, paragraph, new_x="LMARGIN", new_y="NEXT")
        paper.ln(2)


def word(fill: Callable[[docx.document.Document], object], title: str = "") -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    fill(document)
    buffer = BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def archive(files: Sequence[tuple[str, bytes]]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files:
            target.writestr(name, content)
    return buffer.getvalue()
