/** Size and positions of tiles, as in the package's `tile_plan.py` and `blending.py`. */

import { UserError } from "./images";

/** Constants of `mini`: a row of the package's `models/zoo.py`. */
export const MINI = {
  sizeMultiple: 16,
  nativeSize: 1024,
  minTile: 256,
  tileOverlap: 128,
  smallestTile: 64,
  faithfulStrength: 0.5,
} as const;

/** Tiles of one run, in pixels of the enlarged image. Without `tile` the image is not tiled. */
export interface TilePlan {
  readonly tile: number | null;
  readonly overlap: number;
  readonly least: number;
}

const UNTILED: TilePlan = { tile: null, overlap: 0, least: 0 };

function down(value: number, multiple: number): number {
  return Math.floor(value / multiple) * multiple;
}

/**
 * Plan tiles for a result of `size` (height, width).
 *
 * "auto" leaves results up to the model's native area, or that of `largest`, untiled.
 */
export function planTiles(size: readonly [number, number], tile: number | "auto", largest = Infinity): TilePlan {
  const multiple = MINI.sizeMultiple;
  let edge: number;
  if (tile === "auto") {
    edge = Math.min(MINI.nativeSize, largest);
    if (size[0] * size[1] <= edge ** 2) return UNTILED;
  } else {
    if (!Number.isInteger(tile) || tile < MINI.smallestTile) {
      throw new UserError(`A tile must be at least ${MINI.smallestTile} pixels, got ${tile}.`);
    }
    edge = down(tile, multiple);
  }
  if (Math.max(...size) <= edge) return UNTILED;
  const overlap = Math.min(MINI.tileOverlap, down(edge / 4, multiple));
  return { tile: edge, overlap, least: Math.min(edge, MINI.minTile) };
}

/** Return the plan to try after memory has run out: half the edge; null below the smallest. */
export function smallerPlan(plan: TilePlan, size: readonly [number, number]): TilePlan | null {
  const multiple = MINI.sizeMultiple;
  const half = down(Math.min(plan.tile ?? Infinity, Math.max(...size)) / 2, multiple);
  if (half < MINI.smallestTile) return null;
  const overlap = down(Math.min(plan.overlap || MINI.tileOverlap, Math.floor(half / 2)), multiple);
  return { tile: half, overlap, least: Math.min(plan.least, half) };
}

/** Tiles along one axis: the extent of each, and where each starts; the last one ends at `length`. */
export interface AxisTiles {
  readonly length: number;
  readonly tile: number;
  readonly starts: readonly number[];
}

/** Cover `length` with the fewest tiles, evenly spaced and as small as possible, but not below the plan's least. */
export function axisTiles(length: number, plan: TilePlan): AxisTiles {
  const multiple = MINI.sizeMultiple;
  const largest = plan.tile ?? length;
  if (length <= largest) return { length, tile: length, starts: [0] };
  const stride = down(largest - plan.overlap, multiple);
  const count = 1 + Math.ceil((length - largest) / stride);
  const even = Math.ceil((length + (count - 1) * (largest - stride)) / count / multiple) * multiple;
  const tile = Math.min(largest, Math.max(even, plan.least));
  const starts = Array.from({ length: count }, (_, i) =>
    down(Math.floor((i * (length - tile)) / (count - 1)), multiple),
  );
  return { length, tile, starts };
}

/**
 * Compute the blending weights of each tile along an axis, (tile,) each; they sum to one at every position.
 *
 * Towards a neighbour the weight is zero over the outer quarter of the overlap, a raised cosine over the middle half,
 * and one inside.
 */
export function axisWeights({ length, tile, starts }: AxisTiles): Float32Array[] {
  const total = new Float64Array(length);
  const raw = starts.map((start, i) => {
    const left = i > 0 ? starts[i - 1] + tile - start : 0;
    const right = i + 1 < starts.length ? start + tile - starts[i + 1] : 0;
    const weights = ramp(tile, left, right);
    weights.forEach((weight, at) => (total[start + at] += weight));
    return weights;
  });
  return raw.map((weights, i) => Float32Array.from(weights, (weight, at) => weight / total[starts[i] + at]));
}

function ramp(tile: number, left: number, right: number): Float64Array {
  const weights = new Float64Array(tile).fill(1);
  for (let at = 0; at < tile; at++) {
    for (const [overlap, distance] of [
      [left, at + 0.5],
      [right, tile - at - 0.5],
    ]) {
      if (overlap) {
        const progress = Math.min(Math.max((distance - overlap / 4) / (overlap / 2), 0), 1);
        weights[at] *= 0.5 - 0.5 * Math.cos(Math.PI * progress);
      }
    }
  }
  return weights;
}
