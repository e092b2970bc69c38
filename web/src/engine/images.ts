/** Pictures as the engine sees them, and the only place that scales integers and rounds floats. */

/** Pixels of 8 bits, (height, width, channels), one pixel after the other; channels is 1 or 3. */
export interface Pixels {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** Float images (channels, height, width), one channel after the other, nominally in [0, 1]. */
export interface Planes {
  readonly data: Float32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** Positions from `start` up to, not including, `stop`. */
export interface Span {
  readonly start: number;
  readonly stop: number;
}

/** What a user can act on, in one sentence. */
export class UserError extends Error {}

/** Each 8-bit value as a float in [0, 1]. */
export const UNIT = Float32Array.from({ length: 256 }, (_, value) => value / 255);

export function span(start: number, stop: number): Span {
  return { start, stop };
}

export function newPlanes(channels: number, height: number, width: number): Planes {
  return { data: new Float32Array(channels * height * width), channels, height, width };
}

/** Round to the nearest integer, halves to the even one, as Python and NumPy do. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Convert a value in [0, 1], clamped, to 8 bits. */
export function toByte(value: number): number {
  return value <= 0 ? 0 : value >= 1 ? 255 : roundHalfEven(Math.fround(value * 255));
}

/** Copy a window of planes. */
export function windowOf(planes: Planes, rows: Span, cols: Span): Planes {
  const [height, width] = [rows.stop - rows.start, cols.stop - cols.start];
  const result = newPlanes(planes.channels, height, width);
  for (let channel = 0; channel < planes.channels; channel++) {
    for (let y = 0; y < height; y++) {
      const from = (channel * planes.height + rows.start + y) * planes.width + cols.start;
      result.data.set(planes.data.subarray(from, from + width), (channel * height + y) * width);
    }
  }
  return result;
}

/** Put one image below another of the same width and channels. */
export function stacked(upper: Planes, lower: Planes): Planes {
  const result = newPlanes(upper.channels, upper.height + lower.height, upper.width);
  for (let channel = 0; channel < upper.channels; channel++) {
    let at = channel * result.height * result.width;
    for (const part of [upper, lower]) {
      const size = part.height * part.width;
      result.data.set(part.data.subarray(channel * size, (channel + 1) * size), at);
      at += size;
    }
  }
  return result;
}

/** Swap rows and columns of planes. */
export function transposedPlanes({ data, channels, height, width }: Planes): Planes {
  const result = newPlanes(channels, width, height);
  for (let channel = 0; channel < channels; channel++) {
    const plane = channel * height * width;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        result.data[plane + x * height + y] = data[plane + y * width + x];
      }
    }
  }
  return result;
}

/** Swap rows and columns of pixels. */
export function transposedPixels({ data, channels, height, width }: Pixels): Pixels {
  const result = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        result[(x * height + y) * channels + channel] = data[(y * width + x) * channels + channel];
      }
    }
  }
  return { data: result, height: width, width: height, channels };
}
