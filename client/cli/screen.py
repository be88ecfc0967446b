"""What commands print: rich text for people, one JSON document for programs."""

import sys
from collections.abc import Mapping, Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_PIPE = 140


class Screen:
    """Where a command writes. With `json`, stdout gets nothing but the document."""

    def __init__(self, json: bool = False) -> None:
        self.is_json = json
        width = None if sys.stdout.isatty() else WIDTH_OF_A_PIPE
        self.out = Console(stderr=json, width=width, highlight=False)
        self.progress = Console(stderr=True, highlight=False)

    def say(self, text: str, style: str = "") -> None:
        """A line for people; with --json it goes to stderr."""
        self.out.print(Text(text, style=style), soft_wrap=True)

    def document(self, value: object) -> None:
        """The JSON document, if one was asked for."""
        if self.is_json:
            sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
            sys.stdout.buffer.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` are numbers."""
    result = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", header_style="dim", overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return result


def seconds(value: float) -> str:
    """0.0123 → "12 ms", 3.21 → "3.2 s", 200 → "3 min 20 s"."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def money(value: float) -> str:
    """US dollars, with as many digits as it takes to see them."""
    return f"${value:.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def size(value: float) -> str:
    """Bytes in MB or GB."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def reasons(counts: Mapping[str, int]) -> str:
    """{"malformed": 5, "unanswerable": 4} → "5 malformed, 4 unanswerable"."""
    return ", ".join(f"{count} {code}" for code, count in sorted(counts.items(), key=lambda pair: -pair[1]))
