from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from tests.images.pictures import metadata
from tests.images.test_transparency import shape
from tsdsr.errors import InvalidInputError, OutOfMemoryError, TSDSRError
from tsdsr.images.picture import Picture, Pixels
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.files import Job, JobResult, pending, plan_jobs, restore_picture, run_jobs
from tsdsr.pipeline.loading import load_pipeline


def double(picture: Picture) -> Picture:
    return replace(picture, pixels=picture.pixels.repeat(2, 0).repeat(2, 1))


def names(jobs: list[Job], root: Path) -> list[str]:
    return [str(job.destination.relative_to(root)) for job in jobs]


def test_a_folder_keeps_its_structure(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "notes.txt").write_text("not an image")
    out = tmp_path / "out"
    expected = ["astronaut.png", "cat.webp", "coffee.jpg", "more/rocket.bmp"]
    assert names(plan_jobs([str(photo_folder)], out), out) == expected
    assert names(plan_jobs([str(photo_folder)], out, ".png"), out)[-1] == "more/rocket.png"


def test_patterns_and_files(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert names(plan_jobs([f"{photo_folder}/*.jp*g"], out), out) == ["coffee.jpg"]
    assert names(plan_jobs([f"{photo_folder}/**/*.bmp"], out), out) == ["rocket.bmp"]
    file = str(photo_folder / "cat.webp")
    assert plan_jobs([file], tmp_path / "big.png")[0].destination == tmp_path / "big.png"
    assert plan_jobs([file], tmp_path / "big")[0].destination == tmp_path / "big" / "cat.webp"


def test_results_never_overwrite_inputs_or_each_other(photo_folder: Path, tmp_path: Path) -> None:
    in_place = plan_jobs([str(photo_folder)], photo_folder)
    assert all("overwrite the input" in str(job.error) for job in in_place)
    (photo_folder / "astronaut.jpg").write_bytes((photo_folder / "coffee.jpg").read_bytes())
    clash = plan_jobs([str(photo_folder)], tmp_path / "out", ".png")
    assert [job.source.name for job in clash if job.error is None] == [
        "astronaut.jpg",
        "cat.webp",
        "coffee.jpg",
        "rocket.bmp",
    ]
    assert [str(job.error).split(":")[-1] for job in clash if job.error] == [
        f" its result {tmp_path}/out/astronaut.png is already that of {photo_folder}/astronaut.jpg; rename one"
    ]


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no images found"):
        plan_jobs([str(tmp_path)], tmp_path / "out")
    with pytest.raises(InvalidInputError, match="gif"):
        plan_jobs(["a.png"], tmp_path, ".gif")
    with pytest.raises(InvalidInputError, match=r"a\.png, b\.png: no such file"):
        plan_jobs(["a.png", "b.png"], tmp_path)


def test_a_path_stands_for_a_list_of_one(photo_folder: Path, tmp_path: Path) -> None:
    expected = plan_jobs([str(photo_folder / "cat.webp")], tmp_path)
    assert plan_jobs(photo_folder / "cat.webp", str(tmp_path)) == expected
    assert plan_jobs(str(photo_folder / "cat.webp"), tmp_path) == expected


def test_a_format_that_cannot_be_written_here_is_found_beforehand(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsdsr.images.reading.codecs", lambda: {"PNG"})
    jobs = plan_jobs([str(photo_folder / "cat.webp"), str(photo_folder / "astronaut.png")], tmp_path)
    assert ["cannot be used here" in str(job.error) for job in jobs] == [True, False]
    assert [job.source.name for job in pending(jobs)] == ["astronaut.png"]


def run(jobs: list[Job], overwrite: bool = False) -> list[JobResult]:
    return list(run_jobs(jobs, double, overwrite))


def test_a_bad_file_does_not_stop_the_rest(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "broken.png").write_bytes(b"x")
    jobs = plan_jobs([str(photo_folder), str(tmp_path / "missing.png")], tmp_path / "out")
    results = {r.job.source.name: r for r in run(jobs)}
    assert {n: r.status for n, r in results.items()} == {
        "astronaut.png": "done",
        "broken.png": "failed",
        "cat.webp": "done",
        "coffee.jpg": "done",
        "rocket.bmp": "done",
        "missing.png": "failed",
    }
    assert "broken.png" in str(results["broken.png"].error)
    assert "no such file" in str(results["missing.png"].error)
    with Image.open(tmp_path / "out" / "more" / "rocket.bmp") as image:
        assert image.size == (1280, 854)


def test_existing_results_are_skipped_unless_asked(photo_folder: Path, tmp_path: Path) -> None:
    jobs = plan_jobs([str(photo_folder / "cat.webp")], tmp_path / "out")
    assert [r.status for r in run(jobs)] == ["done"]
    jobs[0].destination.write_bytes(b"kept")
    assert [r.status for r in run(jobs)] == ["skipped"]
    assert jobs[0].destination.read_bytes() == b"kept"
    assert [r.status for r in run(jobs, overwrite=True)] == ["done"]


def test_notices_are_reported_and_options_reach_the_file(photo_folder: Path, tmp_path: Path) -> None:
    with Image.open(photo_folder / "astronaut.png") as image:
        image.quantize(16).save(photo_folder / "few.png", transparency=3)
    sizes = []
    for quality in (30, 90):
        (job,) = plan_jobs([str(photo_folder / "few.png")], tmp_path / f"{quality}.jpg")
        (result,) = run_jobs([job], lambda picture: picture, options=WriteOptions(quality=quality))
        assert result.notices == (
            "the palette is converted to RGB",
            "JPEG has no transparency: it is flattened onto white",
        )
        sizes.append(job.destination.stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_fails_one_file(photo_folder: Path, tmp_path: Path, error: Exception) -> None:
    def restore(picture: Picture) -> Picture:
        if picture.width == 451:  # the cat
            raise error
        return picture

    jobs = plan_jobs([str(photo_folder / name) for name in ("cat.webp", "coffee.jpg")], tmp_path / "out")
    failed, done = run_jobs(jobs, restore)
    assert isinstance(failed.error, OutOfMemoryError)
    assert "cat.webp: out of memory; free some" in str(failed.error)
    assert done.status == "done"


def test_mistakes_of_the_program_are_not_swallowed(photo_folder: Path, tmp_path: Path) -> None:
    def restore(picture: Picture) -> Picture:
        raise RuntimeError("a bug")

    jobs = plan_jobs([str(photo_folder / "cat.webp")], tmp_path / "out")
    with pytest.raises(RuntimeError, match="a bug"):
        list(run_jobs(jobs, restore))
    assert not issubclass(RuntimeError, TSDSRError)


def composite(pixels: Pixels, alpha: Pixels, background: int) -> Pixels:
    weight = alpha[..., None] / 255
    return pixels * weight + background * (1 - weight)


def shrunk(values: Pixels) -> Pixels:
    """A quarter of the size, channel by channel, float."""
    channels = [Image.fromarray(values[..., c].astype(np.float32)) for c in range(values.shape[2])]
    size = (values.shape[1] // 4, values.shape[0] // 4)
    return np.dstack([np.asarray(channel.resize(size, Image.Resampling.BOX)) for channel in channels])


def bicubic(pixels: Pixels) -> Pixels:
    size = (pixels.shape[1] * 4, pixels.shape[0] * 4)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("model", ["bicubic", "mini"])
@pytest.mark.parametrize("background", [0, 255])
def test_cut_outs_have_no_halo(model: str, background: int) -> None:
    """Against the true cut-out over black and over white, in the band along its edge."""
    truth = skimage.data.astronaut()[:256, 100:356]
    alpha = np.asarray(shape())
    small_alpha = shrunk(alpha[..., None])
    small = shrunk(truth * (alpha[..., None] / 255)) / np.maximum(small_alpha / 255, 1e-6)
    hidden = np.where(small_alpha == 0, 255 - background, small)  # the worst colour that could be underneath
    pixels = hidden.clip(0, 255).round().astype(np.uint8)
    picture = Picture(pixels, small_alpha[..., 0].round().astype(np.uint8))
    mini = partial(load_pipeline("mini", "cpu", "fp32").upscale_pixels, scale=4.0)
    enlarge = mini if model == "mini" else bicubic
    result = restore_picture(picture, enlarge)
    assert result.alpha is not None
    expected = composite(truth, alpha, background)
    error = composite(result.pixels, result.alpha, background) - expected
    careless = composite(enlarge(pixels), result.alpha, background) - expected
    near = np.asarray(Image.fromarray(alpha).resize((256, 256)).point(lambda v: 255 * (0 < v < 255))) > 0
    assert abs(error[near].mean()) < 4  # neither bright nor dark
    assert np.square(error[near]).mean() < 0.95 * np.square(careless[near]).mean()


@pytest.mark.parametrize("background", [0, 255])
def test_a_cut_out_of_one_colour_keeps_it_to_the_edge(background: int) -> None:
    alpha = np.asarray(shape(64))
    pixels = np.where(alpha[..., None] > 0, np.array([200, 90, 10], np.uint8), np.uint8(255 - background))
    result = restore_picture(Picture(pixels, alpha), bicubic)
    assert result.alpha is not None
    mixed = composite(np.broadcast_to([200, 90, 10], (256, 256, 3)), result.alpha, background)
    assert np.abs(composite(result.pixels, result.alpha, background) - mixed).max() <= 1.5


def test_opaque_alpha_costs_nothing_and_stays() -> None:
    pixels = skimage.data.astronaut()[:32, :32]
    plain = restore_picture(Picture(pixels, None, metadata(), ("a notice",)), bicubic)
    opaque = restore_picture(Picture(pixels, np.full((32, 32), 255, np.uint8)), bicubic)
    assert np.array_equal(plain.pixels, opaque.pixels)
    assert opaque.alpha is not None
    assert opaque.alpha.min() == 255
    assert (plain.metadata, plain.notices) == (metadata(), ("a notice",))
