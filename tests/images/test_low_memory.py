"""A lack of memory is called that, and not damage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.images.pictures import SUFFIXES, deep
from tsdsr.images.picture import Picture
from tsdsr.images.writing import write_picture

READ = """
import resource, sys
from pathlib import Path
from tsdsr.errors import ImageReadError
from tsdsr.images.reading import read_picture
read_picture(sys.argv[1])  # loads the decoder
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[3]) << 20),) * 2)
try:
    read_picture(sys.argv[2])
except ImageReadError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_too_little_memory(tmp_path: Path, suffix: str) -> None:
    rows = np.add.outer(np.arange(2000) % 256, np.arange(3000) % 256).astype(np.uint8)
    pixels = np.repeat(rows[..., None], 3, axis=2)
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
    write_picture(Picture(deep(pixels[:32, :32]) if suffix in (".png", ".tif") else pixels[:32, :32].copy()), small)
    write_picture(Picture(deep(pixels) if suffix in (".png", ".tif") else pixels), large)
    # With 4 MB the C library may end the process when libheif starts its threads.
    for megabytes in ("12", "40") if suffix == ".heic" else ("4", "12", "40"):
        command = [sys.executable, "-c", READ, str(small), str(large), megabytes]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        # Decoders that reuse what they have mapped may succeed.
        enough = not result.stdout and megabytes != "4"
        assert enough or result.stdout.startswith(f"{large}: decoding it takes more memory than there is")
