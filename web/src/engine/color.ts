/** Colour alignment of a restored image with its enlarged input, as in the package's `color.py`. */

import { newPlanes, type Planes } from "./images";

/** Radius of the wavelet fix in pixels, with its five levels. */
export const WAVELET_RADIUS = 31;
const LEVELS = 5;

/** Keep the detail of `xHat`, take the low frequencies from `source`, the same shape. */
export function waveletColorFix(xHat: Planes, source: Planes): Planes {
  const { channels, height, width } = xHat;
  const result = newPlanes(channels, height, width);
  const size = height * width;
  const across = new Float32Array(size);
  for (let channel = 0; channel < channels; channel++) {
    const low = result.data.subarray(channel * size, (channel + 1) * size);
    const own = xHat.data.subarray(channel * size, (channel + 1) * size);
    const wanted = source.data.subarray(channel * size, (channel + 1) * size);
    for (let i = 0; i < size; i++) low[i] = wanted[i] - own[i];
    for (let level = 0; level < LEVELS; level++) {
      blurRows(low, across, height, width, 2 ** level);
      blurColumns(across, low, height, width, 2 ** level);
    }
    for (let i = 0; i < size; i++) low[i] = low[i] * 16 ** -LEVELS + own[i];
  }
  return result;
}

/** Filter rows with [1, 2, 1] over neighbours at a distance; borders are replicated. */
function blurRows(from: Float32Array, to: Float32Array, height: number, width: number, distance: number): void {
  const inner = Math.max(distance, width - distance);
  for (let start = 0; start < height * width; start += width) {
    const stop = start + width;
    for (let x = 0; x < Math.min(distance, width); x++) {
      to[start + x] = from[start] + 2 * from[start + x] + from[Math.min(start + x + distance, stop - 1)];
    }
    for (let i = start + distance; i < stop - distance; i++)
      to[i] = from[i - distance] + 2 * from[i] + from[i + distance];
    for (let x = inner; x < width; x++)
      to[start + x] = from[start + x - distance] + 2 * from[start + x] + from[stop - 1];
  }
}

/** The same along columns. */
function blurColumns(from: Float32Array, to: Float32Array, height: number, width: number, distance: number): void {
  for (let y = 0; y < height; y++) {
    const above = Math.max(y - distance, 0) * width;
    const below = Math.min(y + distance, height - 1) * width;
    const here = y * width;
    for (let x = 0; x < width; x++) to[here + x] = from[above + x] + 2 * from[here + x] + from[below + x];
  }
}

/** Running mean and deviation of an image per channel. */
export class Moments {
  private count = 0;
  private readonly totals: number[] = [];
  private readonly squares: number[] = [];

  add({ data, channels, height, width }: Planes): void {
    const size = height * width;
    this.count += size;
    for (let channel = 0; channel < channels; channel++) {
      let [total, squares] = [0, 0];
      for (let i = channel * size; i < (channel + 1) * size; i++) {
        total += data[i];
        squares += data[i] * data[i];
      }
      this.totals[channel] = (this.totals[channel] ?? 0) + total;
      this.squares[channel] = (this.squares[channel] ?? 0) + squares;
    }
  }

  /** Return mean and standard deviation of each channel; the variance is kept above zero. */
  meanStd(): { mean: number; std: number }[] {
    return this.totals.map((total, channel) => {
      const spread = Math.max(this.squares[channel] - total ** 2 / this.count, 0);
      return { mean: total / this.count, std: Math.sqrt(spread / Math.max(1, this.count - 1) + 1e-5) };
    });
  }
}

/** Compute `(x - mean) / std * wantedStd + wantedMean` on part of an image with whole-image statistics. */
export function adain(xHat: Planes, own: Moments, wanted: Moments): Planes {
  const size = xHat.height * xHat.width;
  const result = newPlanes(xHat.channels, xHat.height, xHat.width);
  const [from, to] = [own.meanStd(), wanted.meanStd()];
  for (let channel = 0; channel < xHat.channels; channel++) {
    const ratio = to[channel].std / from[channel].std;
    for (let i = channel * size; i < (channel + 1) * size; i++) {
      result.data[i] = (xHat.data[i] - from[channel].mean) * ratio + to[channel].mean;
    }
  }
  return result;
}
