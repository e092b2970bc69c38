"""HTML report of an evaluation in a single file: tables, bar charts, and images side by side.

The page is self-contained: it needs no server and no network. It embeds the evaluation's JSON, and pictures as base64
text that the browser decodes only on display.

Size: 6.7 MB for four RealSR images (512x512) with input, ground truth and three systems, and thumbnails of all hundred.
"""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.evaluation.metrics import METRICS
from tsdsr.evaluation.report_images import choose_images, pictures_of, thumbnails
from tsdsr.evaluation.results import Evaluation
from tsdsr.files import StrPath, as_path, atomic_path
from tsdsr.wording import counted

TITLE = "Evaluation"
MAX_IMAGES = 24

_SCRIPTS = ("basics", "tables", "scores", "spectrum", "panels", "viewer", "start")
"""Parts of the page's script, ``assets/report_*.js``, concatenated in this order."""

QuotedRow = tuple[str, Mapping[str, float]]
"""A row of a published table: the method, and metric name → value."""


def write_report(
    evaluation: Evaluation,
    path: StrPath,
    *,
    title: str = TITLE,
    published: Sequence[QuotedRow] | None = None,
    ranked_together: bool = True,
    cautions: Sequence[str] = (),
    max_images: int | None = MAX_IMAGES,
    image_quality: int | None = None,
) -> None:
    """Write an evaluation as one HTML file. The write is atomic.

    Args:
        evaluation (Evaluation): scores and files; the files must still exist.
        path (str | PathLike): path of the HTML file.
        title (str): heading of the page.
        published (sequence | None): rows for comparison, (method, metric name → value), marked as published. Metrics
            that were not evaluated are not shown.
        ranked_together (bool): rank published rows together with the evaluated systems; False if they are means over
            other images.
        cautions (sequence of str): sentences to show below the table.
        max_images (int | None): number of images embedded with all their pictures: the worst and the best by the first
            metric, and some in between. None embeds all; 0 also omits thumbnails. Scores are always complete.
        image_quality (int | None): 1 to 100 embeds lossy WebP, several times smaller; difference and spectrum are then
            approximate, and the page says so. None is lossless.

    Raises:
        InvalidInputError: A number is out of range, or a published row has an unknown metric.
        DatasetError: A file is missing or damaged, or the evaluation is inconsistent.
    """
    path = as_path(path, "page")
    if max_images is not None and max_images < 0:
        raise InvalidInputError(f"max_images must be at least 0, got {max_images}; None embeds all images")
    if image_quality is not None and not 1 <= image_quality <= 100:
        raise InvalidInputError(f"image_quality must be 1 to 100, got {image_quality}; None is lossless")
    rows = _published_rows(published or ())
    _check_lengths(evaluation)
    embedded = choose_images(evaluation, max_images)
    data = {
        "title": title,
        "evaluation": _without_folders(evaluation).to_dict(),
        "metrics": {name: _describe(name) for name in evaluation.metrics},
        "published": rows,
        "together": ranked_together,
        "cautions": list(cautions),
        "embedded": embedded,
        "lossless": image_quality is None,
    }
    head, tail = _page(title, data)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(head)
        for key, url in _pictures(evaluation, embedded, image_quality, with_thumbnails=max_images != 0):
            file.write(f'<script type="text/plain" id="{key}">{url}</script>\n')
        file.write(tail)


def embeddable(data: Any) -> str:
    """Encode data as JSON that is safe inside a ``<script>`` element, whatever its strings contain."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _page(title: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """Return the parts of the page before and after the pictures."""
    assets = files("tsdsr.evaluation") / "assets"
    read = {name: (assets / name).read_text(encoding="utf-8") for name in ("report.html", "report.css")}
    script = "\n".join((assets / f"report_{part}.js").read_text(encoding="utf-8") for part in _SCRIPTS)
    content = {"title": html.escape(title), "style": read["report.css"], "script": script, "data": embeddable(data)}
    head, tail = read["report.html"].split("$pictures")
    return Template(head).substitute(content), Template(tail).substitute(content)


def _pictures(
    evaluation: Evaluation, embedded: Sequence[int], quality: int | None, with_thumbnails: bool
) -> Iterator[tuple[str, str]]:
    """Yield element ids and data URLs one at a time, to limit memory use."""
    for index in embedded:
        for key, url in pictures_of(evaluation, index, quality).items():
            yield f"picture-{index}-{key}", url
    if with_thumbnails:
        for key, url in thumbnails(evaluation):
            yield f"thumbnail-{key}", url


def _describe(name: str) -> dict[str, Any]:
    """Describe a metric for the page. A metric unknown to this version is shown but not ranked."""
    spec = METRICS.get(name)
    if spec is None:
        return {"label": name, "digits": 4, "higher": None}
    return {"label": spec.label, "digits": spec.digits, "higher": spec.higher_is_better}


def _published_rows(published: Sequence[QuotedRow]) -> list[dict[str, Any]]:
    for label, values in published:
        if unknown := [name for name in values if name not in METRICS]:
            raise InvalidInputError(f"{label}: unknown metrics {', '.join(unknown)}; choose from {', '.join(METRICS)}")
    return [{"label": label, "values": {k: _finite(v) for k, v in values.items()}} for label, values in published]


def _finite(value: float) -> float | str:
    return value if value - value == 0 else str(value)  # same encoding as Evaluation.to_dict


def _check_lengths(evaluation: Evaluation) -> None:
    """Check that every list has one entry per image, or is empty where that is allowed."""
    lists = {"gt_files": evaluation.gt_files, "lr_files": evaluation.lr_files}
    for system in evaluation.systems:
        lists[f"files of {system.name}"] = system.files
        for name, scores in system.scores.items():
            lists[f"{name} of {system.name}"] = tuple(map(str, scores.values))
    total = len(evaluation.images)
    for label, entries in lists.items():
        if entries and len(entries) != total:
            raise DatasetError(
                f"{label}: {counted(len(entries), 'entry', 'entries')} for {counted(total, 'image')}; evaluate again"
            )


def _without_folders(evaluation: Evaluation) -> Evaluation:
    """Reduce paths to file names, because reports are shared and folders are private."""

    def names(paths: Sequence[str]) -> tuple[str, ...]:
        return tuple(Path(p).name for p in paths)

    return dataclasses.replace(
        evaluation,
        gt_files=names(evaluation.gt_files),
        lr_files=names(evaluation.lr_files),
        systems=tuple(dataclasses.replace(s, files=names(s.files)) for s in evaluation.systems),
        problems=(),
        hashes={},
    )
