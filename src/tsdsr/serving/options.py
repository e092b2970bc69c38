"""Options of a request: query parameters, or fields of a multipart form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from tsdsr.images.formats import FORMATS, codecs
from tsdsr.images.writing import Subsampling, WriteOptions
from tsdsr.pipeline.options import MAX_SCALE, SMALLEST_TILE, ColorFix, Fit, RestoreOptions
from tsdsr.serving.problems import ProblemError

FormatName = Literal["png", "jpg", "webp", "tiff", "bmp", "avif", "heic", "jxl"]

MEDIA_TYPES: dict[str, str] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "avif": "image/avif",
    "heic": "image/heic",
    "jxl": "image/jxl",
}
"""Name of each format as an option → its media type."""

Side = Annotated[int, Field(ge=1, le=100_000)]


class UpscaleOptions(BaseModel):
    """How a picture is restored and stored. Unknown names are an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    scale: Annotated[float, Field(ge=1, le=MAX_SCALE, description="Enlargement; fractions are allowed.")] = 4.0
    width: Annotated[Side | None, Field(description="Width of the result in pixels, with `height`.")] = None
    height: Annotated[Side | None, Field(description="Height of the result in pixels, with `width`.")] = None
    fit: Annotated[
        Fit,
        Field(description="`contain` stays within width and height, `cover` fills them and crops, `stretch` distorts."),
    ] = "contain"
    detail: Annotated[float, Field(ge=0, le=1, description="0 faithful … 1 detailed, as trained.")] = 1.0
    color_fix: Annotated[ColorFix, Field(description="How colours are aligned with the input.")] = "wavelet"
    tile: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=SMALLEST_TILE, le=16384)],
        Field(description="Edge of a tile in pixels of the result."),
    ] = "auto"
    seed: Annotated[
        int | None, Field(ge=0, le=2**64 - 1, description="Sample the encoder's posterior; only models in PyTorch do.")
    ] = None
    format: Annotated[FormatName | None, Field(description="Format of the result; default: the input's.")] = None
    quality: Annotated[int | None, Field(ge=1, le=100, description="Of JPEG, WebP, AVIF, HEIC and JPEG XL.")] = None
    lossless: Annotated[bool, Field(description="WebP and JPEG XL without loss.")] = False
    subsampling: Annotated[Subsampling, Field(description="Of colour in JPEG, AVIF and HEIC.")] = "444"
    compression: Annotated[int, Field(ge=0, le=9, description="Of PNG and TIFF; never loses.")] = 4
    icc: Annotated[
        Literal["keep", "srgb"], Field(description="Keep colours and profile, or convert to sRGB, HDR too.")
    ] = "keep"

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together: give both, or a scale")
        return self

    def restore_options(self) -> RestoreOptions:
        """Return the options of the pipeline.

        Raises:
            InvalidInputError: they are out of range.
        """
        target = None if self.width is None or self.height is None else (self.width, self.height)
        return RestoreOptions(self.scale, target, self.fit, self.color_fix, self.detail, self.tile)

    def write_options(self) -> WriteOptions:
        """Return the options of the file.

        Raises:
            InvalidInputError: they are out of range.
        """
        return WriteOptions(self.quality, self.subsampling, self.lossless, self.compression)


class RawQuery(UpscaleOptions):
    """The options, and the name of a picture that is the request's whole body."""

    name: Annotated[str, Field(max_length=1000, description="File name of a picture sent as raw body.")] = ""


def parse_options(given: Mapping[str, Any]) -> UpscaleOptions:
    """Check the options of a request.

    Raises:
        ProblemError: one is unknown or out of range.
    """
    try:
        return UpscaleOptions.model_validate(dict(given))
    except ValidationError as error:
        raise invalid_options(error.errors(include_url=False, include_context=False)) from None


def invalid_options(errors: Any) -> ProblemError:
    """Return the problem for what pydantic found, with one entry in ``errors`` for each option."""
    found = []
    for error in errors[:20]:
        place = [str(part) for part in error["loc"] if part not in ("query", "body", "path")]
        name = place[0][:100] if place else ""
        reason = "is not known" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
        found.append({"name": name, "reason": reason})
    detail = "; ".join(f"{e['name']}: {e['reason']}" if e["name"] else e["reason"] for e in found)
    return ProblemError("invalid-option", detail, more={"errors": found})


def format_table() -> list[dict[str, Any]]:
    """Return the formats that can be written here, as ``/v1/limits`` lists them."""
    here = codecs()
    labels = {"jpg": "JPEG", "webp": "WebP", "heic": "HEIC", "jxl": "JPEG XL"}
    return [
        {
            "name": name,
            "label": labels.get(name, name.upper()),
            "suffix": f".{name}",
            "media_type": media_type,
            "quality": name in ("jpg", "webp", "avif", "heic", "jxl"),
            "lossless": name in ("webp", "jxl"),
            "subsampling": name in ("jpg", "avif", "heic"),
            "compression": name in ("png", "tiff"),
            "alpha": name not in ("jpg", "bmp"),
            "sixteen_bits": name in ("png", "tiff", "jxl"),
        }
        for name, media_type in MEDIA_TYPES.items()
        if FORMATS[f".{name}"] in here
    ]


def format_name(pillow_format: str) -> str:
    """Return the name of a format as an option for Pillow's name of it: "jpg" for "JPEG"."""
    return next(name for name in MEDIA_TYPES if FORMATS[f".{name}"] == pillow_format)
