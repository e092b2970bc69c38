/** Colours below transparent pixels, for the model: a pyramid of alpha-weighted averages, as in `transparency.py`. */

import { roundHalfEven, type Pixels } from "./images";

/** Alpha (height, width), 8 bits. */
export interface Alpha {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
}

/** Colours and a weight for each place, (height, width, channels), the weight last. */
interface Level {
  readonly data: Float32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** Linear interpolation along one axis: two neighbours, and the share of the second. */
interface Taps {
  readonly first: Int32Array;
  readonly second: Int32Array;
  readonly share: Float32Array;
}

const TRUSTED = 0.125; // pixels with at least this alpha keep their colour

/** Extend visible colours into transparent regions; pixels with an alpha of an eighth or more are unchanged. */
export function fillTransparent(pixels: Pixels, alpha: Alpha): Pixels {
  const { height, width, channels } = pixels;
  const filled = fill(firstLevel(pixels, alpha));
  const cols = taps(filled.width, width, 0.5);
  const rows = taps(filled.height, height, 0.5);
  const data = new Uint8Array(pixels.data.length);
  const around = new Float32Array(width * filled.channels);
  for (let y = 0, i = 0; y < height; y++) {
    interpolateRow(filled, rows, cols, y, around);
    for (let x = 0; x < width; x++) {
      const trust = Math.min(alpha.data[y * width + x] / (255 * TRUSTED), 1);
      for (let channel = 0; channel < channels; channel++, i++) {
        const colour = around[x * filled.channels + channel] * 255;
        data[i] = roundHalfEven(colour * (1 - trust) + pixels.data[i] * trust);
      }
    }
  }
  return { data, height, width, channels };
}

/** Premultiplied colours and alpha at half the size. */
function firstLevel({ data, height, width, channels }: Pixels, alpha: Alpha): Level {
  return halved(height, width, channels + 1, (y, x, into) => {
    const at = y * width + x;
    const weight = alpha.data[at] / 255;
    for (let channel = 0; channel < channels; channel++) into[channel] = (data[at * channels + channel] / 255) * weight;
    into[channels] = weight;
  });
}

function halfOf({ data, height, width, channels }: Level): Level {
  return halved(height, width, channels, (y, x, into) => {
    const at = (y * width + x) * channels;
    for (let channel = 0; channel < channels; channel++) into[channel] = data[at + channel];
  });
}

/** Average 2x2 places; at an odd border, those that exist. */
function halved(
  height: number,
  width: number,
  channels: number,
  read: (y: number, x: number, into: Float32Array) => void,
): Level {
  const [rows, cols] = [Math.ceil(height / 2), Math.ceil(width / 2)];
  const data = new Float32Array(rows * cols * channels);
  const place = new Float32Array(channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      read(y, x, place);
      const share = (y === height - 1 && height % 2 ? 1 : 0.5) * (x === width - 1 && width % 2 ? 1 : 0.5);
      const to = ((y >> 1) * cols + (x >> 1)) * channels;
      for (let channel = 0; channel < channels; channel++) data[to + channel] += place[channel] * share;
    }
  }
  return { data, height: rows, width: cols, channels };
}

/** Fill the holes of a level from coarser ones, in place; its colours are then whole, its weights no longer used. */
function fill(level: Level): Level {
  const { data, height, width, channels } = level;
  if (Math.max(height, width) === 1) {
    const weight = Math.max(data[channels - 1], 1e-6);
    for (let channel = 0; channel < channels - 1; channel++) data[channel] /= weight;
    return level;
  }
  const coarse = fill(halfOf(level));
  const [rows, cols] = [
    taps(coarse.height, height, coarse.height / height),
    taps(coarse.width, width, coarse.width / width),
  ];
  const around = new Float32Array(width * channels);
  for (let y = 0; y < height; y++) {
    interpolateRow(coarse, rows, cols, y, around);
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * channels;
      const missing = 1 - data[at + channels - 1];
      for (let channel = 0; channel < channels - 1; channel++) {
        data[at + channel] += missing * around[x * channels + channel];
      }
    }
  }
  return level;
}

function taps(length: number, count: number, scale: number): Taps {
  const [first, second, share] = [new Int32Array(count), new Int32Array(count), new Float32Array(count)];
  for (let i = 0; i < count; i++) {
    const centre = Math.max((i + 0.5) * scale - 0.5, 0);
    first[i] = Math.min(Math.floor(centre), length - 1);
    second[i] = Math.min(first[i] + 1, length - 1);
    share[i] = centre - first[i];
  }
  return { first, second, share };
}

function interpolateRow(
  { data, width, channels }: Level,
  rows: Taps,
  cols: Taps,
  y: number,
  result: Float32Array,
): void {
  const [upper, lower, down] = [rows.first[y] * width, rows.second[y] * width, rows.share[y]];
  for (let x = 0, i = 0; x < cols.first.length; x++) {
    const [left, right, across] = [cols.first[x], cols.second[x], cols.share[x]];
    for (let channel = 0; channel < channels; channel++, i++) {
      const a = data[(upper + left) * channels + channel];
      const b = data[(lower + left) * channels + channel];
      const above = a + (data[(upper + right) * channels + channel] - a) * across;
      const below = b + (data[(lower + right) * channels + channel] - b) * across;
      result[i] = above + (below - above) * down;
    }
  }
}
