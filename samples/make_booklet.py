"""Sets `booklet.txt` as a PDF like those of health plans: running headers, hyphenated text, tables over pages.

The same input gives the same bytes (with the same release of fpdf2): `make samples` writes it, a test compares it.
"""

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import Align, TableBordersLayout

HERE = Path(__file__).parent
SOURCE = HERE / "booklet.txt"
TARGET = HERE / "library" / "HMO-483 Benefits 2025.pdf"

TITLE = "HMO-483 Benefits 2025"
HEADER = "Northgate Health | HMO-483 Benefits 2025"
FOOTER = "Member Services 1-800-555-0148"
DATE = datetime(2024, 10, 1, tzinfo=UTC)
HYPHENATED = """author-iza-tion phys-io-ther-apy re-con-struc-tion med-i-cal-ly nec-es-sary out-pa-tient equip-ment
cov-er-age em-ploy-ment hos-pi-tal treat-ment in-for-ma-tion op-er-a-tion re-ha-bil-i-ta-tion emer-gency phys-i-cian
de-duct-ible spe-cial-ist pre-scrip-tion"""


class Booklet(FPDF):
    """A page with its running header and footer."""

    def header(self) -> None:
        if self.page_no() == 1:
            return
        self.set_font("Helvetica", "I", 8)
        self.cell(0, 6, HEADER, align=Align.R, new_x="LMARGIN", new_y="NEXT")
        self.ln(4)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", "", 8)
        self.cell(0, 6, f"{FOOTER}  |  Page {self.page_no()} of {{nb}}", align=Align.C)


def render(source: str) -> bytes:
    """The booklet as PDF."""
    pdf = Booklet(format="letter")
    pdf.set_title(TITLE)
    pdf.set_author("Northgate Health")
    pdf.set_creation_date(DATE)
    pdf.set_margins(25, 20, 25)
    pdf.set_auto_page_break(True, margin=22)
    pdf.add_page()
    _cover(pdf)
    for is_table, lines in groupby(_lines(source), key=lambda line: line.startswith("|")):
        if is_table:
            _table(pdf, [[cell.strip() for cell in line.strip("|").split("|")] for line in lines])
        else:
            for line in lines:
                _line(pdf, line)
    return bytes(pdf.output())


def _lines(source: str) -> Iterator[str]:
    return (line for line in source.split("\n") if line.strip())


def _cover(pdf: FPDF) -> None:
    pdf.set_font("Helvetica", "B", 24)
    pdf.ln(10)
    pdf.multi_cell(0, 11, TITLE, align=Align.L, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", "", 12)
    pdf.multi_cell(0, 7, "Your guide to what the plan covers and what you pay", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(6)


def _line(pdf: FPDF, line: str) -> None:
    if line.startswith("# "):
        _heading(pdf, line[2:], size=15, space=4)
    elif line.startswith("## "):
        _heading(pdf, line[3:], size=11, space=2)
    else:
        pdf.set_font("Helvetica", "", 10.5)
        indent = 6 if line.startswith("(") else 0
        pdf.set_x(pdf.l_margin + indent)
        pdf.multi_cell(0, 5.4, _hyphenated(line), align=Align.J, new_x="LMARGIN", new_y="NEXT")
        pdf.ln(1.2)


def _heading(pdf: FPDF, text: str, size: int, space: int) -> None:
    """A heading, moved to the next page where hardly a line is left below it."""
    if pdf.will_page_break(size + 8):
        pdf.add_page()
    pdf.ln(space)
    pdf.set_font("Helvetica", "B", size)
    pdf.multi_cell(0, size * 0.55, text, align=Align.L, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)


def _table(pdf: FPDF, rows: list[list[str]]) -> None:
    pdf.set_font("Helvetica", "", 9)
    widths = (16, 40, 32, 32) if rows[0][0] == "Tier" else (40, 32, 30, 38)
    with pdf.table(
        col_widths=widths, line_height=5, padding=1, text_align=Align.L, borders_layout=TableBordersLayout.ALL
    ) as table:
        for cells in rows:
            table.row(cells)
    pdf.ln(3)


def _hyphenated(text: str) -> str:
    """Text with soft hyphens in long words, where a line may break."""
    for word in HYPHENATED.split():
        plain = word.replace("-", "")
        text = re.sub(rf"\b{plain}", word.replace("-", "\u00ad"), text)
    return text


def main() -> None:
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(render(SOURCE.read_text(encoding="utf-8")))
    sys.stdout.write(f"{TARGET.relative_to(HERE.parent)} written\n")


if __name__ == "__main__":
    main()
