# ruff: noqa: RUF001 - pages have multiplication signs and dashes
"""Every figure of the documentation and its source.

    python -m tests.docs.figures            # a table: page and line, figure, source; exit status 1 with figures amiss

A figure is a number that was measured or that the code determines: a number with a unit, a decimal in a table or beside
a metric's name. Where a source is named, so is every decimal, and where it is a record, every cell of a table that is a
number only. A comment on its own line names the source, up to the next heading or comment:

    <!-- figures: bench-mini, votes.percent -->          records: benchmarks/records/bench-mini.toml, a key of another
    <!-- figures: code.mini, published.1 -->             the code, a table of the paper: tests/docs/figure_sources.py
    <!-- figures: tsdsr.storage:TRIES -->                a constant, or the defaults of a class
    <!-- figures: serve-load; settings: 30 s, 5 % -->    numbers that the reader chooses or that limit something
    <!-- figures: none (examples) -->                    no number below is a figure, and why
    <!-- figures of this page: … -->                     the same for every section without a comment of its own

A figure must be a value of its source, rounded to the digits shown, in the unit shown.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.figure_sources import BASE, Value, values_of

ROOT = Path(__file__).resolve().parents[2]

UNITS: dict[str, tuple[str, float]] = {
    "µs": ("time", 1e-6), "ms": ("time", 1e-3), "s": ("time", 1), "min": ("time", 60), "h": ("time", 3600),
    "days": ("time", 86400), "bytes": ("bytes", 1), "kB": ("bytes", 1e3), "MB": ("bytes", 1e6), "GB": ("bytes", 1e9),
    "TB": ("bytes", 1e12), "KiB": ("bytes", 2**10), "MiB": ("bytes", 2**20), "GiB": ("bytes", 2**30), "dB": ("dB", 1),
    "percent": ("percent", 1), "times": ("times", 1), "fps": ("rate", 1), "per_s": ("rate", 1),
    "GFLOP": ("FLOP", 1e9), "TFLOP": ("FLOP", 1e12), "EFLOP": ("FLOP", 1e18), "M": ("count", 1e6),
    "B": ("count", 1e9), "levels": ("levels", 1), "votes": ("votes", 1),
}  # fmt: skip
"""Unit → what it measures, and its size. Keys of records end in these names."""

SPELT = {
    "second": "s", "seconds": "s", "sec": "s", "minute": "min", "minutes": "min", "hour": "h", "hours": "h",
    "day": "days", "KB": "kB", "%": "percent", "×": "times",
    **{f"times {following}": "times" for following in ("as", "the", "more", "fewer", "less")},
    "million": "M", "billion": "B", "grey levels": "levels", "levels": "levels",
    "TFLOP/s": "TFLOP", "GFLOP/s": "GFLOP", "TFLOPS": "TFLOP",
    **{f"{what}/s": "per_s" for what in ("pairs", "pictures", "photographs", "rows", "images", "frames")},
    **{f"{what} a second": "per_s" for what in ("pairs", "pictures", "photographs", "rows", "images", "frames")},
    "a second": "per_s",
}  # fmt: skip

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+)(?:e-?\d+)?"
_NAMES = sorted({*UNITS, *SPELT} - {"percent", "votes", "per_s", "times"}, key=len, reverse=True)
_UNIT = "|".join(re.escape(name) for name in _NAMES)
_BEFORE = r"(?<![\w.,/^×⁻-])"
_LIST = rf"(?:{_NUMBER}, (?=(?:{_NUMBER}, )*{_NUMBER} and ))*{_NUMBER}(?:(?: to | and | or |–| → ){_NUMBER})*"
WITH_UNIT = re.compile(rf"{_BEFORE}(?P<numbers>{_LIST})[ \n\u00a0]?(?P<unit>{_UNIT})(?![\w²³/-]|(?<=×) ?\d)")
VOTES = re.compile(rf"{_BEFORE}(?P<numbers>\d+(?:(?:, | and )\d+)*) of (?P<all>\d+)(?![\d.]|[ \n]*(?:{_UNIT})\b)")
DECIMAL = re.compile(rf"{_BEFORE}(?:\d{{1,3}}(?:,\d{{3}})+|\d*)\.\d+(?:e-?\d+)?(?![\w.]*\d)|{_BEFORE}\d+e-\d+")
METRIC = r"(?:PSNR|SSIM|LPIPS|DISTS|NIQE|grain|fringes|cosine|correlation)"
IN_PROSE = re.compile(rf"(?<![\w.])0?\.\d+(?![\w.]*\d)|{METRIC}(?: of)? (?P<number>\d*\.\d+)")
COMMENT = re.compile(r"^ *<!-- figures( of this page)?: (.+?) -->$")
HEAD_UNIT = re.compile(rf"(?:^|, |\(|^in )({_UNIT})\)?$")


@dataclass(frozen=True)
class Source:
    """What a comment says: names of sources, texts that are settings, whether no number is a figure."""

    names: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    none: bool = False


@dataclass(frozen=True)
class Figure:
    """A number of a page with its unit ("" without one) and the source that its page names; None: none is named."""

    page: str
    line: int
    text: str
    unit: str
    source: Source | None

    def __str__(self) -> str:
        return f"{self.text} {self.unit}".strip()

    @property
    def found_in(self) -> str:
        """The source that has this figure, "setting", or "" where none does."""
        source = self.source or Source()
        shown = (f"{self.text} {self.unit}".strip(), self.text)
        if any(_spelling(text) in shown for text in source.settings):
            return "setting"
        return next((name for name in source.names if any(self.shows(value) for value in values_of(name))), "")

    def shows(self, value: Value) -> bool:
        """Return whether the number is this value, rounded to the digits shown."""
        if isinstance(value.number, str):
            return self.unit == "votes" and value.number == self.text
        if self.unit == "votes":
            return False
        number = value.number
        if value.unit == BASE:
            number /= 0.01 if self.unit == "percent" else UNITS[self.unit][1] if self.unit else 1
        elif self.unit:
            if value.unit not in UNITS or UNITS[value.unit][0] != UNITS[self.unit][0]:
                return False
            number *= UNITS[value.unit][1] / UNITS[self.unit][1]
        digits, _, power = self.text.replace(",", "").partition("e")
        step = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
        return abs(abs(number) - float(digits) * 10 ** int(power or 0)) <= step * (0.5 + 1e-6)


def _spelling(setting: str) -> str:
    """Write a setting's unit as figures have it: "5 %" → "5 percent"."""
    match = WITH_UNIT.fullmatch(setting)
    return f"{match['numbers']} {SPELT.get(match['unit'], match['unit'])}" if match else setting


def parse_comment(text: str) -> Source:
    """Read what stands behind "figures:" in a comment."""
    if text.startswith("none"):
        if not re.fullmatch(r"none \(.+\)", text):
            raise ValueError(f"'figures: {text}' gives no reason; write 'none (reason)'")
        return Source(none=True)
    names, _, settings = text.partition("; settings: ")
    return Source(tuple(names.split(", ")) if names else (), tuple(settings.split("; ")) if settings else ())


def _blank(match: re.Match[str]) -> str:
    """Replace a match by a letter, which keeps numbers around it apart, and its line breaks."""
    return "x" + "\n" * match[0].count("\n")


def _readable(text: str) -> str:
    """Leave out what is not prose: code, formulas, addresses, comments, emphasis."""
    text = re.sub(r"(`+).+?\1", _blank, text, flags=re.DOTALL)
    text = re.sub(r"\$[^$\n]+\$", _blank, text)
    text = re.sub(
        r"!\[[^\]]*\]|\b(?:Python|torch|Diffusion|ONNX Runtime|PyAV|[Vv]ersion)\s\d[\d.]*(?:\sto\s\d[\d.]*)?",
        _blank,
        text,
    )
    text = re.sub(r"\]\([^)]*\)", lambda m: "]" + "\n" * m[0].count("\n"), text)
    text = re.sub(r"<[^>]*>|https?://\S+", _blank, text)
    return re.sub(r"\*+|\\", "", text)


def figures_of(page: Path) -> list[Figure]:
    """Return the figures of a page in their order."""
    return list(_figures(page.read_text(), str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name))


def _figures(text: str, name: str) -> Iterator[Figure]:
    default: Source | None = None
    source: Source | None = None
    head: list[str] = []
    for line, block in _blocks(text):
        if match := COMMENT.match(block):
            source = parse_comment(match[2])
            default = source if match[1] else default
            continue
        if block.startswith("#"):
            source = default
            continue
        if not block.lstrip().startswith("|"):
            head = []
            found = _in_prose(_readable(block), decimals=source is not None and bool(source.names))
        else:
            cells = _cells(block)
            head = head or cells
            found = [] if set(block) <= set("|-: ") else _in_row(head, cells, counts=_names_a_record(source))
        if source is None or not source.none:
            for offset, number, unit in found:
                yield Figure(name, line + offset, number, unit, source)


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of paragraphs, rows of tables, headings and comments; fenced code is left out."""
    paragraph: list[str] = []
    fence = ""
    lines = text.splitlines()
    first = next((i + 1 for i, line in enumerate(lines) if i and line == "---"), 0) if lines[:1] == ["---"] else 0
    for number, line in enumerate([*lines[first:], ""], start=first + 1):
        marker = re.match(r" *(```+)", line)
        alone = bool(marker or fence or COMMENT.match(line) or re.match(r" *\||#|$", line))
        if alone and paragraph:
            yield number - len(paragraph), "\n".join(paragraph)
            paragraph = []
        if marker and not fence:
            fence = marker[1]
        elif fence:
            fence = "" if marker and marker[1] == fence else fence
        elif not alone:
            paragraph.append(line)
        elif line.strip():
            yield number, line


def _cells(row: str) -> list[str]:
    return [_readable(cell.strip()) for cell in row.strip().strip("|").split("|")]


def _names_a_record(source: Source | None) -> bool:
    """Whether a source is a record, not a table of the paper or a constant."""
    return source is not None and not all(":" in name or name.startswith("published.") for name in source.names)


def _in_prose(text: str, decimals: bool) -> list[tuple[int, str, str]]:
    """Return line, number and unit of the figures in a text; ``decimals`` counts every number with a point."""
    found = [*_with_units(text)]
    rest = WITH_UNIT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    for match in (DECIMAL if decimals else IN_PROSE).finditer(rest):
        found.append((rest.count("\n", 0, match.start()), match.groupdict().get("number") or match[0], ""))
    return found


def _with_units(text: str) -> Iterator[tuple[int, str, str]]:
    for match in WITH_UNIT.finditer(text):
        for number in re.findall(_NUMBER, match["numbers"]):
            yield text.count("\n", 0, match.start()), number, SPELT.get(match["unit"], match["unit"])
    for match in VOTES.finditer(text):
        for number in re.findall(r"\d+", match["numbers"]):
            yield text.count("\n", 0, match.start()), f"{number} of {match['all']}", "votes"


def _in_row(head: list[str], cells: list[str], counts: bool) -> list[tuple[int, str, str]]:
    """Return the figures of a row of a table; a column's head may give the unit of its numbers.

    ``counts`` includes whole numbers that have a cell to themselves, behind the first column.
    """
    found = []
    for place, cell in enumerate(cells):
        found += [*_with_units(cell)]
        rest = VOTES.sub(" ", WITH_UNIT.sub(" ", cell))
        title = head[place] if place < len(head) and head is not cells else ""
        match = HEAD_UNIT.search(title)
        if match and place:
            unit = SPELT.get(match[1], match[1])
            found += [(0, number, unit) for number in re.findall(rf"{_BEFORE}{_NUMBER}(?![\w.]*\d)", rest)]
        elif counts and place and re.fullmatch(r"\d[\d,]*", rest.strip()):
            found.append((0, rest.strip(), ""))
        else:
            found += [(0, m[0], "") for m in DECIMAL.finditer(rest)]
    return found


def pages() -> list[Path]:
    """Return the pages whose figures are checked; generated ones are the code's own words."""
    docs = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "src" / "tsdsr").rglob("*.md")]
    found = [*docs, *(ROOT / "integrations").rglob("*.md"), ROOT / "README.md"]
    return sorted(page for page in found if not page.read_text().startswith('<!-- Made by "make reference"'))


def sources_of(page: Path) -> list[str]:
    """Return the sources that a page names."""
    comments = (COMMENT.match(line) for line in page.read_text().splitlines())
    return [name for match in comments if match for name in parse_comment(match[2]).names]


def main() -> int:
    amiss = 0
    for figure in (figure for page in pages() for figure in figures_of(page)):
        wanted = (
            "no source named" if figure.source is None else f"NOT IN {', '.join(figure.source.names) or 'settings'}"
        )
        found = figure.found_in
        amiss += not found
        print(f"{figure.page}:{figure.line}\t{figure}\t{found or wanted}")
    print(f"{amiss} figures amiss", file=sys.stderr)
    return int(amiss > 0)


if __name__ == "__main__":
    sys.exit(main())
