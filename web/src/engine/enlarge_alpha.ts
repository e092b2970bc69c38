/**
 * Enlargement of alpha with sharp edges, as in the package's `transparency.py`.
 *
 * Bicubic values are refined by iterative back-projection, so that shrinking the result gives the input again, and
 * clamped to the range of the neighbouring input pixels. Blocks without an edge are filled directly.
 */

import type { Alpha } from "./fill_transparent";
import { roundHalfEven } from "./images";

const STEPS = 12;
const BLOCK = 64;
const MARGIN = 12;

/** A matrix whose rows have few values that are not zero, next to each other. */
interface Sparse {
  readonly starts: Int32Array;
  readonly weights: readonly Float32Array[];
}

interface Axis {
  readonly source: readonly [number, number];
  readonly block: readonly [number, number];
  readonly target: readonly [number, number];
  readonly enlarging: Sparse;
  readonly shrinking: Sparse;
  readonly nearest: Int32Array;
}

interface Plane {
  readonly data: Float32Array;
  readonly height: number;
  readonly width: number;
}

/** Enlarge alpha to `size` (height, width), each at least the input's. */
export function enlargeAlpha(alpha: Alpha, size: readonly [number, number]): Alpha {
  const [height, width] = size;
  const result = { data: new Uint8Array(height * width), height, width };
  const across = axes(alpha.width, width);
  for (const rows of axes(alpha.height, height)) {
    for (const cols of across) enlargeBlock(alpha, result, rows, cols);
  }
  return result;
}

function enlargeBlock(alpha: Alpha, result: Alpha, rows: Axis, cols: Axis): void {
  const small = partOf(alpha, rows.source, cols.source);
  const [least, most] = [small.data.reduce((a, b) => Math.min(a, b)), small.data.reduce((a, b) => Math.max(a, b))];
  const x = least === most ? null : backProjected(small, rows, cols);
  for (let y = rows.block[0]; y < rows.block[1]; y++) {
    const to = y * result.width;
    if (x === null) {
      result.data.fill(Math.round(least * 255), to + cols.block[0], to + cols.block[1]);
      continue;
    }
    const from = (y - rows.target[0]) * x.width - cols.target[0];
    for (let col = cols.block[0]; col < cols.block[1]; col++) {
      result.data[to + col] = roundHalfEven(x.data[from + col] * 255);
    }
  }
}

function partOf(alpha: Alpha, rows: readonly [number, number], cols: readonly [number, number]): Plane {
  const [height, width] = [rows[1] - rows[0], cols[1] - cols[0]];
  const data = new Float32Array(height * width);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) data[i] = alpha.data[(rows[0] + y) * alpha.width + cols[0] + x] / 255;
  }
  return { data, height, width };
}

function backProjected(small: Plane, rows: Axis, cols: Axis): Plane {
  const x = resampled(small, rows.enlarging, cols.enlarging);
  for (let step = 0; step < STEPS; step++) {
    const rest = resampled(x, rows.shrinking, cols.shrinking);
    for (let i = 0; i < rest.data.length; i++) rest.data[i] = small.data[i] - rest.data[i];
    const change = resampled(rest, rows.enlarging, cols.enlarging).data;
    for (let i = 0; i < change.length; i++) x.data[i] = Math.min(Math.max(x.data[i] + change[i], 0), 1);
  }
  const [low, high] = [ofNeighbours(small, Math.min), ofNeighbours(small, Math.max)];
  for (let y = 0, i = 0; y < x.height; y++) {
    for (let col = 0; col < x.width; col++, i++) {
      const near = rows.nearest[y] * small.width + cols.nearest[col];
      x.data[i] = Math.min(Math.max(x.data[i], low[near]), high[near]);
    }
  }
  return x;
}

/** Multiply by a matrix along each axis. */
function resampled({ data, height, width }: Plane, rows: Sparse, cols: Sparse): Plane {
  const across = new Float32Array(height * cols.starts.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < cols.starts.length; x++, i++) {
      const [weights, from] = [cols.weights[x], y * width + cols.starts[x]];
      for (let k = 0; k < weights.length; k++) across[i] += weights[k] * data[from + k];
    }
  }
  const result = {
    data: new Float32Array(rows.starts.length * cols.starts.length),
    height: rows.starts.length,
    width: cols.starts.length,
  };
  for (let y = 0; y < result.height; y++) {
    const weights = rows.weights[y];
    const line = result.data.subarray(y * result.width, (y + 1) * result.width);
    for (let k = 0; k < weights.length; k++) {
      const from = (rows.starts[y] + k) * result.width;
      for (let x = 0; x < result.width; x++) line[x] += weights[k] * across[from + x];
    }
  }
  return result;
}

/** The extreme value over the 3x3 neighbourhood of each pixel. */
function ofNeighbours({ data, height, width }: Plane, extreme: typeof Math.max): Float32Array {
  const result = new Float32Array(data.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      let found = data[i];
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
        for (let col = Math.max(0, x - 1); col <= Math.min(width - 1, x + 1); col++) {
          found = extreme(found, data[row * width + col]);
        }
      }
      result[i] = found;
    }
  }
  return result;
}

function axes(length: number, enlarged: number): Axis[] {
  return Array.from({ length: Math.ceil(length / BLOCK) }, (_, i) => axisAround(i * BLOCK, length, enlarged));
}

function axisAround(start: number, length: number, enlarged: number): Axis {
  const stop = Math.min(start + BLOCK, length);
  const scale = enlarged / length;
  const scaled = (from: number, to: number) =>
    [Math.floor((from * enlarged) / length), Math.floor((to * enlarged) / length)] as const;
  const source = [Math.max(0, start - MARGIN), Math.min(length, stop + MARGIN)] as const;
  const target = scaled(...source);
  const size = source[1] - source[0];
  const centres = Float64Array.from(
    { length: target[1] - target[0] },
    (_, i) => (target[0] + i + 0.5) / scale - 0.5 - source[0],
  );
  const enlarging = cubic(centres, size);
  const nearest = Int32Array.from(centres, (centre) => Math.min(Math.max(roundHalfEven(centre), 0), size - 1));
  return { source, target, block: scaled(start, stop), enlarging, shrinking: transposed(enlarging, size), nearest };
}

/** Cubic interpolation (Keys 1981, a = -1/2) at the given centres. */
function cubic(centres: Float64Array, size: number): Sparse {
  const starts = Int32Array.from(centres, (centre) => Math.min(Math.max(Math.floor(centre) - 1, 0), size - 1));
  const weights = Array.from(centres, (centre, i) => {
    const stop = Math.min(size, Math.floor(centre) + 3);
    return normalised(Array.from({ length: stop - starts[i] }, (_, k) => kernel(Math.abs(centre - starts[i] - k))));
  });
  return { starts, weights };
}

function kernel(d: number): number {
  if (d < 1) return 1.5 * d ** 3 - 2.5 * d ** 2 + 1;
  return d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
}

function normalised(values: readonly number[]): Float32Array {
  const sum = values.reduce((a, b) => a + b);
  return Float32Array.from(values, (value) => value / sum);
}

/** The transposed matrix with rows that sum to one. */
function transposed({ starts, weights }: Sparse, size: number): Sparse {
  const firsts = new Int32Array(size).fill(-1);
  const values: number[][] = Array.from({ length: size }, () => []);
  weights.forEach((row, target) => {
    row.forEach((weight, k) => {
      const source = starts[target] + k;
      if (firsts[source] < 0) firsts[source] = target;
      values[source][target - firsts[source]] = weight;
    });
  });
  return { starts: firsts, weights: values.map(normalised) };
}
