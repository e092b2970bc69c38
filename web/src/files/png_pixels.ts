/**
 * Exact pixels of a PNG with transparency.
 *
 * Browsers give colours that were multiplied by alpha in 8 bits, of which little is left where alpha is small. This
 * decoder is for the usual kind, 8 bits a sample with an alpha channel and without interlacing.
 */

import { predicted } from "./png";

/** Receives RGBA of a row of pixels, the first of which has the number `at`. */
export type OnRow = (rgba: Uint8Array, at: number) => void;

/** Decode a PNG row by row; returns whether it is of the kind that is decoded here, and intact. */
export async function decodeTransparentPng(bytes: Uint8Array, onRow: OnRow): Promise<boolean> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [width, height, bits, kind, interlaced] = [
    view.getUint32(16),
    view.getUint32(20),
    bytes[24],
    bytes[25],
    bytes[28],
  ];
  if (bits !== 8 || (kind !== 4 && kind !== 6) || interlaced !== 0) return false;
  const samples = kind === 6 ? 4 : 2;
  const data = await inflated(bytes, view);
  const length = width * samples;
  if (data === null || data.length < height * (length + 1)) return false;
  let above: Uint8Array = new Uint8Array(length);
  const rgba = new Uint8Array(width * 4);
  for (let row = 0; row < height; row++) {
    const at = row * (length + 1);
    const line = data.subarray(at + 1, at + 1 + length);
    unfilter(data[at], line, above, samples);
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++)
        rgba[4 * x + channel] = line[x * samples + (samples === 4 ? channel : 0)];
      rgba[4 * x + 3] = line[x * samples + samples - 1];
    }
    onRow(rgba, row * width);
    above = line;
  }
  return true;
}

async function inflated(bytes: Uint8Array, view: DataView): Promise<Uint8Array | null> {
  const parts: Uint8Array[] = [];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === "IDAT") {
      parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
    }
  }
  try {
    const stream = new Blob(parts as BlobPart[]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    return null; // a damaged file: the browser's pixels stay
  }
}

/** Undo the filter of a row in place. */
function unfilter(filter: number, line: Uint8Array, above: Uint8Array, samples: number): void {
  for (let i = 0; i < line.length; i++) {
    const left = i < samples ? 0 : line[i - samples];
    if (filter === 1) line[i] += left;
    else if (filter === 2) line[i] += above[i];
    else if (filter === 3) line[i] += (left + above[i]) >> 1;
    else if (filter === 4) line[i] += predicted(left, above[i], i < samples ? 0 : above[i - samples]);
  }
}
