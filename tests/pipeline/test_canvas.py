from __future__ import annotations

import numpy as np
import pytest

import tsdsr.pipeline.canvas as canvas_module
from tsdsr.pipeline.canvas import make_canvas


def test_a_result_that_does_not_fit_comfortably_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_canvas((8, 8, 3), np.uint8)) is np.ndarray
    monkeypatch.setattr(canvas_module, "free_memory", lambda device: 300)
    canvas = make_canvas((8, 8, 3), np.uint16)
    assert isinstance(canvas, np.memmap)
    canvas[:] = 65535
    assert canvas.shape == (8, 8, 3)
    assert canvas.dtype == np.uint16
