/** The path of a picture's colours through `mini`, as in the package's `sr_pipeline.py` and `stream.py`. */

import { enlargedWindow } from "./bicubic";
import { BandBlender } from "./blending";
import {
  newPlanes,
  span,
  transposedPixels,
  transposedPlanes,
  windowOf,
  type Pixels,
  type Planes,
  type Span,
} from "./images";
import { decode, encode } from "./latents";
import type { RestoreOptions } from "./options";
import { PlainAreas } from "./plain_areas";
import { axisTiles, MINI, planTiles, smallerPlan, type AxisTiles, type TilePlan } from "./tile_plan";
import { makeWriter } from "./writers";

/** Takes the one step: latents (48, h, w) to the same shape. */
export type Denoise = (latents: Planes) => Promise<Planes>;

/** Called with finished and total tiles. An exception ends the restoration. */
export type OnTile = (done: number, total: number) => void | Promise<void>;

/** Memory ran out in one tile. */
export class OutOfMemoryError extends Error {}

/** An image enlarged to `size` and padded to multiples of 16; windows are computed on demand. */
export class EnlargedImage {
  readonly padded: readonly [number, number];
  private readonly rows: Int32Array;
  private readonly cols: Int32Array;

  constructor(
    readonly pixels: Pixels,
    readonly size: readonly [number, number],
  ) {
    [this.rows, this.cols] = size.map((length) => paddedPositions(length, MINI.sizeMultiple));
    this.padded = [this.rows.length, this.cols.length];
  }

  /** Return a window (3, rows, columns) in [0, 1]; grey is repeated. */
  window(rows: Span, cols: Span): Planes {
    const y = this.rows.subarray(rows.start, rows.stop);
    const x = this.cols.subarray(cols.start, cols.stop);
    const window = enlargedWindow(this.pixels, this.size, y, x);
    if (window.channels === 3) return window;
    const result = newPlanes(3, window.height, window.width);
    for (let channel = 0; channel < 3; channel++) result.data.set(window.data, channel * window.data.length);
    return result;
  }
}

/** Positions 0 … length - 1, then those that pad the axis to a multiple: mirrored if it is long enough. */
export function paddedPositions(length: number, multiple: number): Int32Array {
  const padded = Math.ceil(length / multiple) * multiple;
  const mirrors = padded - length < length;
  return Int32Array.from({ length: padded }, (_, i) => (i < length ? i : mirrors ? 2 * (length - 1) - i : length - 1));
}

/**
 * Restore and enlarge the colours of a picture to `size` (height, width).
 *
 * If memory runs out, it starts again with smaller tiles. `largest` bounds the tiles that "auto" chooses.
 */
export async function restorePixels(
  pixels: Pixels,
  size: readonly [number, number],
  options: RestoreOptions,
  denoise: Denoise,
  onTile: OnTile,
  largest = Infinity,
): Promise<Pixels> {
  const result = {
    data: new Uint8Array(size[0] * size[1] * pixels.channels),
    height: size[0],
    width: size[1],
    channels: pixels.channels,
  };
  for (
    let plan: TilePlan | null = planTiles(size, options.tile, largest);
    plan !== null;
    plan = smallerPlan(plan, size)
  ) {
    try {
      await run(pixels, result, plan, options, denoise, onTile);
      return result;
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
    }
  }
  throw new OutOfMemoryError(
    "Memory ran out even with the smallest tiles; close other pages, or choose a smaller scale.",
  );
}

async function run(
  pixels: Pixels,
  result: Pixels,
  plan: TilePlan,
  options: RestoreOptions,
  denoise: Denoise,
  onTile: OnTile,
): Promise<void> {
  // Rows of tiles run along the shorter side, because a whole row is held in memory: a wide image is transposed.
  const transposed = plan.tile !== null && result.width > result.height;
  const size = transposed ? ([result.width, result.height] as const) : ([result.height, result.width] as const);
  const image = new EnlargedImage(transposed ? transposedPixels(pixels) : pixels, size);
  const [rows, cols] = image.padded.map((length) => axisTiles(length, plan));
  const blender = new BandBlender(rows, cols);
  const source = (y: Span, x: Span): Planes => image.window(y, x);
  const canvas = { pixels: result, transposed };
  const writer = makeWriter(options.colorFix, canvas, source, new PlainAreas(image.pixels, size));
  const total = rows.starts.length * cols.starts.length;
  for (let done = 0; done < total; done++) {
    const [row, col] = [Math.floor(done / cols.starts.length), done % cols.starts.length];
    const window = tileWindow(image, rows, cols, row, col);
    const restored = await restoreTile(transposed ? transposedPlanes(window) : window, options.detail, denoise);
    blender.add(row, col, transposed ? transposedPlanes(restored) : restored);
    if (col + 1 === cols.starts.length) {
      const finished = blender.finish(row);
      const left = Math.min(finished.height, size[0] - rows.starts[row]); // without what only pads
      writer.push(windowOf(finished, span(0, left), span(0, size[1])));
    }
    await onTile(done + 1, total);
  }
  writer.close();
}

function tileWindow(image: EnlargedImage, rows: AxisTiles, cols: AxisTiles, row: number, col: number): Planes {
  const [top, left] = [rows.starts[row], cols.starts[col]];
  return image.window(span(top, top + rows.tile), span(left, left + cols.tile));
}

/** Restore one window of the enlarged image: encode, take one step, decode. */
async function restoreTile(window: Planes, detail: number, denoise: Denoise): Promise<Planes> {
  const lq = encode(window);
  const hat = await denoise(lq);
  if (detail < 1) {
    const strength = MINI.faithfulStrength + (1 - MINI.faithfulStrength) * detail;
    for (let i = 0; i < hat.data.length; i++) hat.data[i] = lq.data[i] + strength * (hat.data[i] - lq.data[i]);
  }
  if (!hat.data.every(Number.isFinite)) throw new Error("The model produced values that are not finite.");
  return decode(hat);
}
