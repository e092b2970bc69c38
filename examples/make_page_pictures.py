"""Create the example of the web page: a small photograph and what `mini` makes of it.

    python examples/make_page_pictures.py

The photograph is scikit-image's cat (CC0), reduced.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import tsdsr

ASSETS = Path(tsdsr.__file__).parent / "serving" / "assets"


def main() -> None:
    small = Image.fromarray(skimage.data.chelsea()).resize((225, 150), Image.Resampling.LANCZOS)
    small.save(ASSETS / "example.jpg", quality=88, subsampling=0, optimize=True)
    with Image.open(ASSETS / "example.jpg") as stored:
        result = tsdsr.load_pipeline("mini").upscale_pixels(np.asarray(stored.convert("RGB")), 4)
    Image.fromarray(result).save(ASSETS / "example-after.webp", quality=82, method=6)


if __name__ == "__main__":
    main()
