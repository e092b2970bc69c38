"""The Space: called by its client, clicked in a browser, and its files."""

from __future__ import annotations

import gc
import os
import re
import socket
import warnings
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import blocks_of
from tests.pipeline.hub_server import LICENCES
from tsdsr import load_pipeline
from tsdsr.images.reading import read_picture

gradio_client = pytest.importorskip("gradio_client", reason="needs gradio")
pytest.importorskip("gradio", reason="needs gradio")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "integrations" / "space"


@pytest.fixture(scope="module")
def app() -> ModuleType:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    spec = spec_from_file_location("tsdsr_space", SPACE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address(app: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The running page; uploads and results lie in a folder of the test."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = app.build(load_pipeline("mini", engine="onnx", threads=1))
        _, url, _ = page.launch(
            server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **app.LAUNCH
        )
    yield url
    page.close()
    del os.environ["GRADIO_TEMP_DIR"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # Gradio leaves event loops and sockets open; a later test would be blamed for them


@pytest.fixture(scope="module")
def client(address: str) -> Any:
    return gradio_client.Client(address, verbose=False, analytics_enabled=False)


def test_the_file_keeps_what_the_photograph_has(client: Any, tmp_path: Path) -> None:
    source = tmp_path / "scan.tif"
    Image.fromarray(np.full((20, 24), 30000, np.uint16)).save(source, dpi=(300, 300), description="a scan")
    pair, result, notices = client.predict(gradio_client.handle_file(source), 2, api_name="/upscale")
    assert Path(result).name == "scan_x2.tif"
    made = read_picture(Path(result))
    assert (made.width, made.height, made.max_value, made.grey) == (48, 40, 65535, True)
    with Image.open(result) as image:
        assert (image.info["dpi"], image.tag_v2[270]) == ((300, 300), "a scan")
    assert [Image.open(path).size for path in pair] == [(48, 40), (48, 40)]
    assert notices == ""


def test_another_format_tells_what_it_cannot_hold(client: Any, tmp_path: Path) -> None:
    source = tmp_path / "icon.png"
    Image.new("RGBA", (16, 16), (200, 30, 30, 90)).save(source)
    _, result, notices = client.predict(gradio_client.handle_file(source), 1.5, 0.5, "JPEG", api_name="/upscale")
    assert Path(result).name == "icon_x1.5.jpg"
    assert "transparen" in notices


@pytest.mark.parametrize("page", [SPACE / "README.md", ROOT / "docs" / "how-to" / "space.md"], ids=["card", "guide"])
def test_the_snippet_of_the_documentation(
    page: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 12), "olive").save("photo.jpg")
    (block,) = (block for block in blocks_of(page) if block.language == "python")
    names: dict[str, Any] = {}
    exec(block.text.replace('"OWNER/NAME"', repr(address)), names)
    with Image.open(names["file"]) as image:
        assert image.size == (64, 48)


@pytest.mark.parametrize(
    ("size", "scale", "message"),
    [
        ((1500, 1000), 8, "The result would have 96 million pixels; this page makes up to 24. Choose a smaller scale."),
        ((5000, 5000), 1, "The photograph has more than 24 million pixels."),
        (None, 2, "notes.png: is a text, not an image"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(
    client: Any, tmp_path: Path, size: tuple[int, int] | None, scale: float, message: str
) -> None:
    source = tmp_path / "notes.png"
    if size is None:
        source.write_text("a text, not an image, and of some length\n" * 9)
    else:
        Image.new("L", size).save(source)
    with pytest.raises(gradio_client.exceptions.AppError, match=re.escape(message)) as raised:
        client.predict(gradio_client.handle_file(source), scale, api_name="/upscale")
    assert str(tmp_path.parent) not in str(raised.value)
    assert "/gradio" not in str(raised.value)


def test_no_photograph(client: Any) -> None:
    with pytest.raises(gradio_client.exceptions.AppError, match="Choose a photograph first"):
        client.predict(None, api_name="/upscale")


def test_an_example_is_clicked_and_enlarged(address: str, browser: Any, tmp_path: Path) -> None:
    page, asked = browser.new_page(), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator(".gallery-item").first.click()
    page.locator(".image-frame img").wait_for()
    page.get_by_role("button", name="Enlarge", exact=True).click()
    file = page.locator("a[download]").last
    file.wait_for()
    with page.expect_download() as download:
        file.click()
    assert download.value.suggested_filename == "astronaut_x4.jpg"
    download.value.save_as(tmp_path / "result.jpg")
    page.wait_for_function("[...document.images].filter((image) => image.naturalWidth === 512).length === 2")
    page.close()
    with Image.open(tmp_path / "result.jpg") as image:
        assert image.size == (512, 512)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_the_space_needs_what_the_package_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    core = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    lines = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == re.findall(r'^  "(.*?)"', core, re.MULTILINE)


def test_the_metadata_of_the_space() -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    data = hub.metadata_load(SPACE / "README.md")
    assert data is not None
    assert data["sdk"] == "gradio"
    assert int(data["sdk_version"].split(".")[0]) == 6
    assert (SPACE / data["app_file"]).is_file()
    assert data["license"] in LICENCES
    assert len(data["short_description"]) <= 60  # longer ones are refused
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {data["colorFrom"], data["colorTo"]} <= colours
    assert len(data["emoji"]) == 1


def test_the_examples_are_small() -> None:
    for path in (SPACE / "examples").iterdir():
        assert path.stat().st_size < 20_000
        with Image.open(path) as image:
            assert max(image.size) <= 256
