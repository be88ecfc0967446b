"""Writes the DOCX of the sample library: a guide with numbered headings and a table."""

import sys
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from docx import Document

TARGET = Path(__file__).parent / "library" / "Visitor and site guide.docx"
SECTIONS = (
    ("1 Arrival", (
        "Visitors report to the gatehouse on Harbor Road and show a passport or identity card. The host meets them.",
        "The gatehouse is open from 6:30 to 19:00. Deliveries are accepted until 15:30 at gate 3.",
        "Cars are parked in zone C. Charging an electric car is free of charge for visitors for up to four hours.",
    )),
    ("2 On the site", (
        "In the workshop everybody wears safety shoes, goggles and a high-visibility vest; the host lends them.",
        "The speed limit on the site is 15 kilometers per hour. Forklifts have priority.",
        "Photographs are allowed only in the showroom. A permit for other places is asked for two days before.",
        "Smoking is allowed in the two shelters behind hall 4 only.",
    )),
    ("3 Emergencies", (
        "The emergency number on the site is 112 from any telephone; the control room answers at once.",
        "When the siren sounds for one minute, everybody goes to assembly point B at the old water tower.",
        "The nearest defibrillator hangs at the entrance of hall 2.",
    )),
)  # fmt: skip
ROOMS = (
    ("Room", "Floor", "Seats", "Equipment"),
    ("Amber", "Ground floor", "8", "Screen"),
    ("Basalt", "First floor", "14", "Screen and video conference"),
    ("Cobalt", "First floor", "30", "Projector and interpreter's booth"),
    ("Dolomite", "Second floor", "4", "Whiteboard"),
)
STAMP = datetime(2025, 1, 6, tzinfo=UTC)


def render() -> bytes:
    """The guide as DOCX; the same bytes every time."""
    document = Document()
    document.core_properties.title = "Visitor and site guide"
    document.core_properties.author = "Brightwater Instruments"
    document.core_properties.created = document.core_properties.modified = STAMP
    document.add_heading("Visitor and site guide", level=0)
    for title, paragraphs in SECTIONS:
        document.add_heading(title, level=1)
        for text in paragraphs:
            document.add_paragraph(text)
    document.add_heading("4 Meeting rooms", level=1)
    table = document.add_table(rows=0, cols=len(ROOMS[0]))
    for row in ROOMS:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_paragraph(
        "Rooms are booked in the calendar; a booking that nobody attends is released after 15 minutes."
    )
    buffer = BytesIO()
    document.save(buffer)
    return _timeless(buffer.getvalue())


def _timeless(archive: bytes) -> bytes:
    """The same archive without the time at which its files were packed."""
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(archive)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(
                zipfile.ZipInfo(name, date_time=STAMP.timetuple()[:6]), source.read(name), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


def main() -> None:
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(render())
    sys.stdout.write(f"{TARGET.name} written\n")


if __name__ == "__main__":
    main()
