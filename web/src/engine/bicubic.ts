/** Bicubic enlargement of windows, with the values of the package's `resize.py`: Keys' kernel, a = -0.75. */

import { newPlanes, UNIT, type Pixels, type Planes } from "./images";

const A = -0.75;
const TAPS = 4;

/** The four source positions and weights of each target position along an axis. */
interface Taps {
  readonly index: Int32Array;
  readonly weight: Float32Array;
  readonly first: number;
  readonly stop: number;
}

function inner(x: number): number {
  return ((A + 2) * x - (A + 3)) * x * x + 1;
}

function outer(x: number): number {
  return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A;
}

/**
 * Compute the filter of an axis that is enlarged from `length` to `enlarged`.
 *
 * Source positions are rounded to float32 where the package and PyTorch round them.
 */
function tapsAt(positions: Int32Array, length: number, enlarged: number): Taps {
  const scale = Math.fround(length / enlarged);
  const index = new Int32Array(TAPS * positions.length);
  const weight = new Float32Array(TAPS * positions.length);
  let [first, stop] = [length, 0];
  positions.forEach((position, i) => {
    const source = Math.fround(scale * (position + 0.5) - 0.5);
    const base = Math.floor(source);
    const t = source - base;
    weight.set([outer(t + 1), inner(t), inner(1 - t), outer(2 - t)], TAPS * i);
    for (let tap = 0; tap < TAPS; tap++) {
      const at = Math.min(Math.max(base - 1 + tap, 0), length - 1);
      index[TAPS * i + tap] = at;
      first = Math.min(first, at);
      stop = Math.max(stop, at + 1);
    }
  });
  return { index, weight, first, stop };
}

/** Filter the needed source rows along their width: (stop - first, target columns) of one channel. */
function acrossRows(pixels: Pixels, channel: number, rows: Taps, cols: Taps): Float32Array {
  const { data, channels, width } = pixels;
  const count = cols.index.length / TAPS;
  const result = new Float32Array((rows.stop - rows.first) * count);
  const line = new Float32Array(width);
  for (let y = rows.first; y < rows.stop; y++) {
    for (let x = cols.first; x < cols.stop; x++) line[x] = UNIT[data[(y * width + x) * channels + channel]];
    const to = (y - rows.first) * count;
    for (let i = 0, tap = 0; i < count; i++, tap += TAPS) {
      result[to + i] =
        line[cols.index[tap]] * cols.weight[tap] +
        line[cols.index[tap + 1]] * cols.weight[tap + 1] +
        line[cols.index[tap + 2]] * cols.weight[tap + 2] +
        line[cols.index[tap + 3]] * cols.weight[tap + 3];
    }
  }
  return result;
}

/**
 * Enlarge an image to `size` (height, width) at the given target rows and columns.
 *
 * Returns values clamped to [0, 1] in the channels of `pixels`.
 */
export function enlargedWindow(
  pixels: Pixels,
  size: readonly [number, number],
  rowPositions: Int32Array,
  colPositions: Int32Array,
): Planes {
  const rows = tapsAt(rowPositions, pixels.height, size[0]);
  const cols = tapsAt(colPositions, pixels.width, size[1]);
  const [height, width] = [rowPositions.length, colPositions.length];
  const result = newPlanes(pixels.channels, height, width);
  for (let channel = 0; channel < pixels.channels; channel++) {
    const across = acrossRows(pixels, channel, rows, cols);
    for (let y = 0, tap = 0; y < height; y++, tap += TAPS) {
      const [a, b, c, d] = [0, 1, 2, 3].map((i) => (rows.index[tap + i] - rows.first) * width);
      const [p, q, r, s] = rows.weight.subarray(tap, tap + TAPS);
      const to = (channel * height + y) * width;
      for (let x = 0; x < width; x++) {
        const value = across[a + x] * p + across[b + x] * q + across[c + x] * r + across[d + x] * s;
        result.data[to + x] = value < 0 ? 0 : value > 1 ? 1 : value;
      }
    }
  }
  return result;
}
