"""A Space for tsdsr: a photograph in, before and after under a slider, and the full result as a file.

    python app.py

``build`` makes the interface for any pipeline. Everything about a picture is done by tsdsr, as in its commands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from tsdsr import SRPipeline, TSDSRError, load_pipeline
from tsdsr.errors import ImageTooLargeError
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture
from tsdsr.pipeline.batch import restore_file
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.picture_restorer import picture_restorer

EXAMPLES = Path(__file__).with_name("examples")
FORMATS = {"as the photograph": None, "PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif"}
MAX_INPUT_PIXELS = 24_000_000
MAX_RESULT_PIXELS = 24_000_000
"""About half a minute on two CPU cores."""
PREVIEW_EDGE = 2048
"""Longest side of the pictures under the slider, in pixels."""
QUEUE = 16
"""Photographs that may wait; then the page says that it is busy."""
_FONTS = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
LAUNCH: dict[str, Any] = {"max_file_size": "30mb", "show_error": True, "theme": gr.themes.Soft(**_FONTS)}
"""How the page is served. The fonts are those of the visitor's system."""

INTRODUCTION = """
# Restore and enlarge a photograph
One step of a small diffusion model (8 million parameters), on the CPU. EXIF, colour profile, transparency and 16 bits
stay in the file that you download. Photographs are deleted after an hour.
"""


def _as_uploaded(payload: Any) -> str | None:
    """Hand a photograph over as the file that was uploaded, so that nothing of it is lost."""
    return None if payload is None else payload.path


def restore(
    pipe: SRPipeline, photo: str | None, scale: float, detail: float, format: str, progress: gr.Progress
) -> Iterator[tuple[tuple[Image.Image, Image.Image], str, str]]:
    """Restore a photograph.

    Args:
        pipe (SRPipeline): the model.
        photo (str | None): the uploaded file.
        scale (float): enlargement, 1 to 8.
        detail (float): 0 (faithful) to 1 (detailed).
        format (str): a key of :data:`FORMATS`.
        progress (gr.Progress): is told the finished tiles.

    Yields:
        tuple: pictures (before, after) of one size, the result's file, and what was converted or dropped. The caller
        copies the file before it asks for more.

    Raises:
        gr.Error: the photograph cannot be used.
    """
    if photo is None:
        raise gr.Error("Choose a photograph first.", print_exception=False)
    source = EncodedImage(Path(photo).name, Path(photo))
    suffix = FORMATS[format] or Path(photo).suffix.lower()

    def bounded(picture: Picture) -> Picture:
        height, width = options.size(picture.height, picture.width)
        if height * width > MAX_RESULT_PIXELS:
            raise gr.Error(
                f"The result would have {height * width / 1e6:.0f} million pixels; this page makes up to "
                f"{MAX_RESULT_PIXELS // 10**6}. Choose a smaller scale.",
                print_exception=False,
            )
        return restorer(picture)

    with tempfile.TemporaryDirectory(prefix="tsdsr-space-") as folder:
        result = Path(folder) / f"{Path(photo).stem}_x{scale:g}{suffix}"
        try:
            options = RestoreOptions(scale, detail=detail)
            restorer = picture_restorer(
                pipe, options, on_tile=lambda done, total: progress((done, total), unit="tiles")
            )
            progress(0, "reading")
            notices = restore_file(source, result, bounded, MAX_INPUT_PIXELS)
            yield _pair(source, result), str(result), "\n".join(f"- {notice}" for notice in notices)
        except ImageTooLargeError as error:
            limit = f"{MAX_INPUT_PIXELS // 10**6} million pixels"
            raise gr.Error(f"The photograph has more than {limit}. Make it smaller.", print_exception=False) from error
        except TSDSRError as error:
            raise gr.Error(str(error).replace(str(result), result.name), print_exception=False) from error


def _pair(source: EncodedImage, result: Path) -> tuple[Image.Image, Image.Image]:
    """Return both pictures in the size of the result, or smaller, for the slider."""
    after = to_srgb(read_picture(result, None)).to_image()
    after.thumbnail((PREVIEW_EDGE, PREVIEW_EDGE))
    before = to_srgb(read_picture(source, None)).to_image()
    return before.resize(after.size, Image.Resampling.BICUBIC), after


def build(pipe: SRPipeline) -> gr.Blocks:
    """Make the page around a pipeline, with the endpoint ``/upscale`` for programs."""

    def upscale(
        photo: str | None,
        scale: float = 4,
        detail: float = 1,
        format: str = "as the photograph",
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio looks for this default
    ) -> Iterator[tuple[Any, str, str]]:
        yield from restore(pipe, photo, scale, detail, format, progress)

    with gr.Blocks(title="tsdsr", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                photo = gr.Image(type="filepath", label="Photograph", sources=["upload", "clipboard"], height=280)
                photo.preprocess = _as_uploaded
                scale = gr.Slider(1, 8, value=4, step=0.5, label="Scale")
                detail = gr.Slider(0, 1, value=1, step=0.05, label="Detail", info="0 faithful, 1 detailed")
                format = gr.Dropdown(list(FORMATS), value="as the photograph", label="Format of the file")
                start = gr.Button("Enlarge", variant="primary")
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(
                    label="Before and after", interactive=False, format="webp", buttons=["fullscreen"]
                )
                file = gr.File(label="Result in full quality", interactive=False)
                notices = gr.Markdown(label="Notes", show_label=False)
        gr.Examples([[str(path)] for path in sorted(EXAMPLES.iterdir())], [photo], label="Examples")
        start.click(
            upscale, [photo, scale, detail, format], [slider, file, notices], api_name="upscale", concurrency_limit=1
        )
    return page.queue(max_size=QUEUE)


def main() -> None:
    """Serve the page."""
    build(load_pipeline("mini", engine="onnx")).launch(**LAUNCH)


if __name__ == "__main__":
    main()
