"""The HTML report: complete, self-contained, with controls that work in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.chromium import expect, until
from tests.images.unusual import UNUSUAL, write_float, write_unusual
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.evaluation.html_report import embeddable, write_report
from tsdsr.evaluation.report_images import choose_images, data_url, open_picture
from tsdsr.evaluation.results import Cost, Evaluation, Scores, SystemResult
from tsdsr.hashing import hash_file

EDGE = 128
NAMES = ("cat", "<b>&\"rocket'</script>", "face")


def photographs() -> list[np.ndarray]:
    pictures = (skimage.data.chelsea(), skimage.data.rocket(), skimage.data.astronaut())
    return [picture[20 : 20 + EDGE, 150 : 150 + EDGE, :3] for picture in pictures]


@pytest.fixture
def found(tmp_path: Path) -> Evaluation:
    """Three images by two systems: one returns the truth darkened by ten levels, one weaves a grid of four pixels."""
    paths: dict[str, list[str]] = {"gt": [], "lr": [], "dark": [], "grid": []}
    weave = np.zeros((EDGE, EDGE, 1), dtype=int)
    weave[:, ::4] = 24
    for k, true in enumerate(photographs()):
        pictures = {
            "gt": true,
            "lr": true[::4, ::4],
            "dark": true.astype(int) - 10,
            "grid": true.astype(int) + weave,
        }
        for label, array in pictures.items():
            path = tmp_path / f"{label}{k}.png"
            Image.fromarray(np.clip(array, 0, 255).astype(np.uint8)).save(path)
            paths[label].append(str(path))

    def scores(*psnr: float) -> dict[str, Scores]:
        mean = float(np.mean(psnr))
        return {"psnr": Scores(mean, psnr, (mean - 1, mean + 1)), "musiq": Scores(unavailable="no <network>")}

    cost = Cost(0.25, None, 5, "cpu", "float32", (32, 32), 5_170_000, 2**30)
    systems = (
        SystemResult("dark", tuple(paths["dark"]), scores(28.0, 30.0, 29.0), cost),
        SystemResult("grid", tuple(paths["grid"]), scores(27.0, 24.0, float("inf"))),
    )
    variants = {"psnr": "pyiqa psnr: Y", "musiq": "pyiqa musiq"}
    return Evaluation(NAMES, tuple(paths["gt"]), tuple(paths["lr"]), systems, variants, {"pyiqa": "0"})


def test_the_page_is_self_contained(found: Evaluation, tmp_path: Path) -> None:
    write_report(found, tmp_path / "r.html", title="A & <B>")
    page = (tmp_path / "r.html").read_text()
    assert "<title>A &amp; &lt;B&gt;</title>" in page
    assert not re.search(r"https?://|\bsrc=[\"'](?!data:)|@import|url\(", page)
    stored = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert stored
    data = json.loads(stored[1])
    assert data["evaluation"]["images"] == list(NAMES)
    assert str(tmp_path) not in page  # folders are private


def test_embedded_text_cannot_end_its_element() -> None:
    text = embeddable({"a": "</script><!--&"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><!--&"}


def test_pictures_are_lossless(found: Evaluation) -> None:
    import base64
    import io

    picture = Image.open(found.gt_files[0]).convert("RGB")
    kind, text = data_url(picture, None).split(",")
    again = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
    assert kind in ("data:image/png;base64", "data:image/webp;base64")
    assert np.array_equal(np.asarray(picture), np.asarray(again))


def test_the_worst_and_the_best_are_embedded(found: Evaluation) -> None:
    assert choose_images(found, None) == (0, 1, 2)
    many = Evaluation(
        tuple("abcdefghij"),
        (),
        (),
        (SystemResult("s", (), {"lpips": Scores(0, tuple(0.1 * k for k in (3, 1, 9, 5, 0, 7, 2, 8, 4, 6)))}),),
        {"lpips": ""},
    )
    chosen = choose_images(many, 6)
    assert {2, 7, 4, 1} <= set(chosen)  # two worst, two best
    assert len(chosen) == 6
    assert choose_images(many, 0) == ()


def test_limits_shrink_the_page(found: Evaluation, tmp_path: Path) -> None:
    sizes = []
    for k, options in enumerate(({}, {"max_images": 1}, {"max_images": 0})):
        write_report(found, tmp_path / f"{k}.html", **options)
        sizes.append((tmp_path / f"{k}.html").stat().st_size)
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2]
    for options in ({"max_images": -1}, {"image_quality": 101}):
        with pytest.raises(InvalidInputError):
            write_report(found, tmp_path / "x.html", **options)


def test_missing_pictures_are_named_and_nothing_is_written(found: Evaluation, tmp_path: Path) -> None:
    Path(found.systems[1].files[2]).unlink()
    with pytest.raises(DatasetError, match=r"grid2\.png.*gone"):
        write_report(found, tmp_path / "r.html")
    assert not list(tmp_path.glob("*.html")) + list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("name", UNUSUAL)
def test_pictures_show_what_the_file_shows(tmp_path: Path, name: str) -> None:
    path, shown = write_unusual(tmp_path, name)
    assert np.array_equal(np.asarray(open_picture(str(path))), shown)
    with pytest.raises(DatasetError, match=r"float\.tif: contains floating-point values"):
        open_picture(str(write_float(tmp_path)))


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open the report of an evaluation; any error on the page fails the test."""
    errors: list[str] = []
    pages = []

    def open_report(found: Evaluation, options: dict[str, Any] | None = None, **page_options: Any) -> Any:
        write_report(found, tmp_path / "r.html", **(options or {}))
        page = browser.new_page(**page_options)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto((tmp_path / "r.html").as_uri())
        return page

    yield open_report
    for page in pages:
        page.close()
    assert errors == []


def shown(page: Any, image: int) -> None:
    page.wait_for_selector(f"#viewer[data-shown='{image}']")


def pixel(page: Any, panel: str, x: int, y: int) -> list[int]:
    script = "([key, x, y]) => [...document.querySelector(`figure[data-key='${key}'] canvas`)"
    script += ".getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
    found: list[int] = page.evaluate(script, [panel, x, y])
    return found


def test_tables_say_who_is_best_and_sort(found: Evaluation, opened: Open) -> None:
    page = opened(found, {"published": [("theirs", {"psnr": 28.5})]})
    rows = page.locator("#scores tbody tr")
    assert [rows.nth(k).locator("td").nth(1).get_attribute("class") for k in range(3)] == ["second", "best", ""]
    assert rows.nth(1).inner_text().split("\t")[1].startswith("∞")
    page.click("#scores th button >> text=PSNR")
    names = [re.compile(f"^{name}") for name in ("grid", "dark", "theirs")]
    expect(rows.locator("td:first-child")).to_have_text(names)
    expect(page.locator("#notes .missing")).to_contain_text("no <network>")
    expect(page.locator("#costs")).to_contain_text("1024 MiB")


def test_means_over_other_images_are_ranked_apart(found: Evaluation, opened: Open) -> None:
    options = {"published": [("theirs", {"psnr": 99.0})], "ranked_together": False, "cautions": ["a <caution>"]}
    page = opened(found, options)
    rows = page.locator("#scores tbody tr")
    assert [rows.nth(k).locator("td").nth(1).get_attribute("class") for k in range(3)] == ["second", "best", "best"]
    assert "a <caution>" in page.inner_text("#notes")


def test_a_picture_that_is_not_the_scored_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    hashes = {str(path): hash_file(path)}
    assert open_picture(str(path), hashes).size == (8, 8)
    Image.new("RGB", (8, 8), "blue").save(path)
    with pytest.raises(DatasetError, match=r"a\.png: has changed since it was scored; evaluate again"):
        open_picture(str(path), hashes)


def test_pictures_difference_and_keys(found: Evaluation, opened: Open) -> None:
    page = opened(found)
    shown(page, 0)
    true = photographs()
    assert page.locator("#panels figure").count() == 5
    assert pixel(page, "gt", 30, 40) == true[0][40, 30].tolist()
    assert pixel(page, "lr", 30, 40) == true[0][40, 28].tolist()  # the input's own pixels, enlarged
    page.keyboard.press("ArrowRight")
    shown(page, 1)
    assert pixel(page, "gt", 3, 4) == true[1][4, 3].tolist()
    page.keyboard.press("ArrowLeft")
    shown(page, 0)
    page.select_option("#mode", "difference")
    page.wait_for_function("!document.querySelector(\"figure[data-key='gt']\")")
    level = min(10, int(true[0][40, 30, 0]))
    assert pixel(page, "0", 30, 40)[0] == 4 * level
    page.fill("#gain", "2")
    page.wait_for_function("document.querySelector(\"figure[data-key='0'] canvas\").getContext('2d')"
                           f".getImageData(30, 40, 1, 1).data[0] === {2 * level}")  # fmt: skip


def test_all_magnifiers_look_at_the_same_place(found: Evaluation, opened: Open) -> None:
    page = opened(found)
    shown(page, 0)
    page.select_option("#zoom", "16")
    frame = page.locator("figure[data-key='gt'] .frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.25)
    expect(frame.locator(".lens")).to_be_visible()
    lenses = page.evaluate(
        "[...document.querySelectorAll('.lens')].map((lens) => ({hidden: lens.hidden, left: lens.style.left, top: "
        "lens.style.top, centre: [...lens.getContext('2d').getImageData(64, 64, 1, 1).data].slice(0, 3)}))"
    )
    assert len(lenses) == 5
    assert len({(lens["left"], lens["top"], lens["hidden"]) for lens in lenses}) == 1
    assert not lenses[0]["hidden"]
    assert lenses[-1]["centre"] in [photographs()[0][y, x].tolist() for y in (31, 32) for x in (63, 64)]
    page.mouse.move(0, 0)
    page.wait_for_function("[...document.querySelectorAll('.lens')].every((lens) => lens.hidden)")


def test_a_grid_shows_in_the_spectrum(found: Evaluation, opened: Open) -> None:
    page = opened(found)
    shown(page, 0)
    page.evaluate("for (const figure of document.querySelectorAll('#panels figure')) figure.id = 'old'")
    page.select_option("#mode", "spectrum")
    expect(page.locator("#old")).to_have_count(0)  # new ones take their place, all at once
    expect(page.locator("#panels figure")).to_have_count(5)
    at_period_4 = [pixel(page, key, EDGE // 2 + EDGE // 4, EDGE // 2)[0] for key in ("1", "0")]
    beside = pixel(page, "1", EDGE // 2 + EDGE // 4 + 5, EDGE // 2)[0]
    assert at_period_4[0] > at_period_4[1] + 40
    assert at_period_4[0] > beside + 40


def test_the_divider_moves(found: Evaluation, opened: Open) -> None:
    page = opened(found)
    shown(page, 0)
    page.select_option("#mode", "slider")
    page.select_option("#left", "1")
    expect(page.locator("#panels")).to_be_hidden()
    until(page, f"['above', 'below'].every((id) => document.getElementById(id).width === {EDGE})")  # both are painted
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50, steps=4)
    page.mouse.up()

    def hidden_share() -> float:
        clip = page.evaluate("document.getElementById('above').style.clipPath")
        return float(re.search(r"inset\(0\S* ([\d.]+)%", clip)[1])  # type: ignore[index]

    until(page, lambda: 70 < hidden_share() < 80)


def test_bars_and_thumbnails_open_images(found: Evaluation, opened: Open) -> None:
    page = opened(found)
    shown(page, 0)
    assert [page.locator(".bar > span").nth(k).inner_text() for k in range(3)] == [NAMES[1], NAMES[0], NAMES[2]]
    page.locator(".bar").nth(2).click()
    shown(page, 2)
    expect(page.locator(".bar[aria-current]")).to_have_text(re.compile(f"^{NAMES[2]}"))
    page.select_option("#system", "1")
    expect(page.locator("#worst .thumb b").first).to_have_text("24.00")
    page.locator("#worst .thumb").first.click()
    shown(page, 1)


def test_numbers_without_pictures(found: Evaluation, opened: Open) -> None:
    page = opened(found, {"max_images": 1})
    other = next(k for k in range(3) if k not in choose_images(found, 1))
    page.locator(f".bar[data-image='{other}']").click()
    expect(page.locator("#embedded")).to_contain_text("numbers only")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_need_no_sideways_scrolling(found: Evaluation, opened: Open, scheme: str) -> None:
    page = opened(found, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    shown(page, 0)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_minimal_evaluation_makes_a_page(found: Evaluation, opened: Open) -> None:
    """One system, neither truth nor input, a metric of whole sets only."""
    system = SystemResult("s", found.systems[0].files, {"fid": Scores(12.5)})
    page = opened(Evaluation(found.images, (), (), (system,), {"fid": ""}))
    shown(page, 0)
    assert page.locator("#panels figure").count() == 1
    assert page.locator("#mode [value=difference]").count() == 0
    assert "12.50" in page.inner_text("#scores")
