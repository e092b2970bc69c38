"""The colour description in the sequence header of an AV1 stream (AV1 specification, 5.5)."""

from __future__ import annotations


def av1_cicp(units: bytes) -> tuple[int, int, int, int] | None:
    """Read the colour description in the first sequence header of a stream.

    Args:
        units (bytes): the start of the stream, whole units (OBUs).

    Returns:
        tuple | None: colour primaries, transfer characteristics, matrix coefficients (ITU-T H.273), full range flag;
        None if there is no description.

    Raises:
        LookupError: The header ends early.
    """
    at = 0
    while at < len(units):
        kind, flags = units[at] >> 3 & 15, units[at]
        at += 2 if flags & 4 else 1
        size, shift = 0, 0
        while flags & 2:
            byte = units[at]
            size, shift, at = size | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                break
        size = size if flags & 2 else len(units) - at
        if kind == 1:
            return _Bits(units[at : at + size]).sequence_colour()
        at += size
    return None


class _Bits:
    """Bits of a sequence header, from the highest on."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise LookupError("a sequence header ends early")
        return self._value >> self._left & (1 << count) - 1

    def sequence_colour(self) -> tuple[int, int, int, int] | None:
        profile, _, reduced = self.read(3), self.read(1), self.read(1)
        if reduced:
            self.read(5)
        else:
            self._operating_points()
        width, height = self.read(4) + 1, self.read(4) + 1
        self.read(width + height)
        if not reduced and self.read(1):  # frame numbers
            self.read(7)
        self.read(3)
        if not reduced:
            self._tools()
        self.read(3)
        high = self.read(1)
        if profile == 2 and high:
            self.read(1)
        grey = self.read(1) if profile != 1 else 0
        if not self.read(1):
            return None
        primaries, transfer, matrix = self.read(8), self.read(8), self.read(8)
        full = 1 if not grey and (primaries, transfer, matrix) == (1, 13, 0) else self.read(1)
        return primaries, transfer, matrix, full

    def _operating_points(self) -> None:
        decoder_model = 0
        if self.read(1):  # timing
            self.read(64)
            if self.read(1):
                zeros = 0
                while not self.read(1):
                    zeros += 1
                self.read(zeros)
            decoder_model = self.read(1)
            delay = self.read(5) + 1 if decoder_model else 0
            if decoder_model:
                self.read(42)
        display_delay = self.read(1)
        for _ in range(self.read(5) + 1):
            self.read(12)
            if self.read(5) > 7:
                self.read(1)
            if decoder_model and self.read(1):
                self.read(2 * delay + 1)
            if display_delay and self.read(1):
                self.read(4)

    def _tools(self) -> None:
        self.read(4)
        order_hint = self.read(1)
        if order_hint:
            self.read(2)
        screen_content = 2 if self.read(1) else self.read(1)
        if screen_content and not self.read(1):
            self.read(1)
        if order_hint:
            self.read(3)
