/**
 * Where the input is flat or neutral, the result follows it, as in the package's `plain_areas.py`.
 *
 * Both weights are measured on the input at its own size, so they do not depend on tiles: *flat*, the input hardly
 * changes in a neighbourhood; *neutral*, it is grey in a neighbourhood or nearly grey as a whole.
 */

import { span, UNIT, type Pixels, type Planes, type Span } from "./images";

const LEVEL = 1 / 255;
const EXACT = [0.25 * LEVEL, LEVEL] as const; // range of the input within 1 pixel: the weight falls from one to zero
const NEARLY = [2.05 * LEVEL, 4 * LEVEL] as const; // the same within 3 pixels
const TINT = [2.05 * LEVEL, 5 * LEVEL] as const; // difference of channels within 3 pixels
const PICTURE_TINT = [10 * LEVEL, 20 * LEVEL] as const; // that which 0.5 % of the picture exceeds
const SHARE = 0.995;
const RADIUS = 3;

/** Linear interpolation from an axis of the input to positions of the enlarged axis. */
interface Axis {
  readonly near: Span;
  readonly index: Int32Array;
  readonly progress: Float32Array;
}

/** Values (height, width). */
interface Field {
  readonly data: Float32Array;
  readonly height: number;
  readonly width: number;
}

export class PlainAreas {
  private readonly neutral: number;

  constructor(
    private readonly pixels: Pixels,
    private readonly size: readonly [number, number],
  ) {
    this.neutral = falling(commonTint(pixels), PICTURE_TINT);
  }

  /** Blend a window of the result with the same window of the enlarged input; `restored` is changed. */
  follow(restored: Planes, source: Planes, rows: Span, cols: Span): void {
    const y = axisAt(rows, this.pixels.height, this.size[0]);
    const x = axisAt(cols, this.pixels.width, this.size[1]);
    const { flat, neutral } = this.weights(y, x);
    const [useFlat, useNeutral] = [isUsed(flat), isUsed(neutral)];
    if (!useFlat && !useNeutral) return;
    const [flatRow, neutralRow] = [new Float32Array(cols.stop - cols.start), new Float32Array(cols.stop - cols.start)];
    for (let row = 0; row < restored.height; row++) {
      if (useFlat) enlargeRow(flat, y, x, row, flatRow);
      if (useNeutral) enlargeRow(neutral, y, x, row, neutralRow);
      followRow(restored, source, row, flatRow, neutralRow);
    }
  }

  /** Return the weights of flat and of neutral areas at the size of the input. */
  private weights(y: Axis, x: Axis): { flat: Field; neutral: Field } {
    const { pixels } = this;
    const [height, width] = [y.near.stop - y.near.start, x.near.stop - x.near.start];
    const flat = { data: new Float32Array(height * width), height, width };
    const neutral = { data: new Float32Array(height * width), height, width };
    const [close, wide] = [new Float32Array(height * width), new Float32Array(height * width)];
    const channels = Array.from({ length: pixels.channels }, (_, channel) =>
      channelOf(pixels, channel, y.near, x.near),
    );
    for (const channel of channels) {
      keepLargest(close, rangeWithin(channel, 1));
      keepLargest(wide, rangeWithin(channel, RADIUS));
    }
    const tint = largestWithin(tintOf(channels), RADIUS, Math.max);
    for (let i = 0; i < flat.data.length; i++) {
      flat.data[i] = Math.max(falling(close[i], EXACT), falling(wide[i], NEARLY));
      neutral.data[i] = Math.max(falling(tint.data[i], TINT), this.neutral);
    }
    return { flat, neutral };
  }
}

/** Blend one row: the change of the restored row loses its colour where neutral, and all of it where flat. */
function followRow(restored: Planes, source: Planes, row: number, flat: Float32Array, neutral: Float32Array): void {
  const size = restored.height * restored.width;
  const [r, g, b] = [restored.data, restored.data.subarray(size), restored.data.subarray(2 * size)];
  const [sr, sg, sb] = [source.data, source.data.subarray(size), source.data.subarray(2 * size)];
  for (let x = 0, i = row * restored.width; x < restored.width; x++, i++) {
    const [colour, kept] = [1 - neutral[x], 1 - flat[x]];
    const [dr, dg, db] = [r[i] - sr[i], g[i] - sg[i], b[i] - sb[i]];
    // Brightness is the mean of the channels, so a grey photograph gives the same result with one channel.
    const mean = (dr + dg + db) / 3;
    r[i] = ((dr - mean) * colour + mean) * kept + sr[i];
    g[i] = ((dg - mean) * colour + mean) * kept + sg[i];
    b[i] = ((db - mean) * colour + mean) * kept + sb[i];
  }
}

function axisAt(positions: Span, length: number, enlarged: number): Axis {
  const count = positions.stop - positions.start;
  const [index, progress] = [new Int32Array(count), new Float32Array(count)];
  for (let i = 0; i < count; i++) {
    const centre = (positions.start + i + 0.5) * (length / enlarged) - 0.5;
    const source = Math.min(Math.max(centre, 0), length - 1);
    index[i] = Math.min(Math.floor(source), Math.max(0, length - 2));
    progress[i] = source - index[i];
  }
  const last = Math.min(length - 1, index[count - 1] + 1);
  const near = span(Math.max(0, index[0] - RADIUS), Math.min(length, last + RADIUS + 1));
  for (let i = 0; i < count; i++) index[i] -= near.start;
  return { near, index, progress };
}

/** Interpolate one row of the enlarged weights. */
function enlargeRow(field: Field, y: Axis, x: Axis, row: number, result: Float32Array): void {
  const { data, height, width } = field;
  const upper = y.index[row] * width;
  const lower = Math.min(y.index[row] + 1, height - 1) * width;
  for (let col = 0; col < result.length; col++) {
    const [left, right] = [x.index[col], Math.min(x.index[col] + 1, width - 1)];
    const above = data[upper + left] + (data[upper + right] - data[upper + left]) * x.progress[col];
    const below = data[lower + left] + (data[lower + right] - data[lower + left]) * x.progress[col];
    result[col] = above + (below - above) * y.progress[row];
  }
}

/** One up to `low`, zero from `high`, linear in between. */
function falling(value: number, [low, high]: readonly [number, number]): number {
  return Math.min(Math.max((high - value) / (high - low), 0), 1);
}

function isUsed(field: Field): boolean {
  return field.data.some((weight) => weight > 0);
}

function channelOf(pixels: Pixels, channel: number, rows: Span, cols: Span): Field {
  const [height, width] = [rows.stop - rows.start, cols.stop - cols.start];
  const data = new Float32Array(height * width);
  for (let y = 0, i = 0; y < height; y++) {
    let from = ((rows.start + y) * pixels.width + cols.start) * pixels.channels + channel;
    for (let x = 0; x < width; x++, i++, from += pixels.channels) data[i] = UNIT[pixels.data[from]];
  }
  return { data, height, width };
}

function keepLargest(into: Float32Array, values: Float32Array): void {
  for (let i = 0; i < into.length; i++) if (values[i] > into[i]) into[i] = values[i];
}

function tintOf(channels: readonly Field[]): Field {
  const { height, width } = channels[0];
  const data = new Float32Array(height * width);
  for (let i = 0; i < data.length; i++) {
    const values = channels.map((channel) => channel.data[i]);
    data[i] = Math.max(...values) - Math.min(...values);
  }
  return { data, height, width };
}

function rangeWithin(channel: Field, radius: number): Float32Array {
  const highest = largestWithin(channel, radius, Math.max).data;
  const lowest = largestWithin(channel, radius, Math.min).data;
  return highest.map((value, i) => value - lowest[i]);
}

/** Return the extreme value within a radius, along one axis after the other. Nothing outside the image counts. */
function largestWithin({ data, height, width }: Field, radius: number, extreme: typeof Math.max): Field {
  const [across, result] = [new Float32Array(data.length), new Float32Array(data.length)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let found = data[y * width + x];
      const stop = Math.min(width, x + radius + 1);
      for (let near = Math.max(0, x - radius); near < stop; near++) found = extreme(found, data[y * width + near]);
      across[y * width + x] = found;
    }
  }
  for (let y = 0; y < height; y++) {
    const stop = Math.min(height, y + radius + 1);
    for (let x = 0; x < width; x++) {
      let found = across[y * width + x];
      for (let near = Math.max(0, y - radius); near < stop; near++) found = extreme(found, across[near * width + x]);
      result[y * width + x] = found;
    }
  }
  return { data: result, height, width };
}

/** Return the tint that 0.5 % of the pixels exceed, to a level of 8 bits. */
function commonTint({ data, channels }: Pixels): number {
  if (channels === 1) return 0;
  const counts = new Float64Array(256);
  for (let i = 0; i < data.length; i += 3) {
    const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
    counts[Math.max(r, g, b) - Math.min(r, g, b)]++;
  }
  let sum = 0;
  const wanted = SHARE * (data.length / 3);
  for (let tint = 0; tint < 256; tint++) {
    sum += counts[tint];
    if (sum >= wanted) return tint * LEVEL;
  }
  return 1;
}
