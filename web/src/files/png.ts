/** PNG: its chunks, and an encoder that works strip by strip, so that no canvas limits the size of a result. */

import type { Alpha } from "../engine/fill_transparent";
import type { Pixels } from "../engine/images";
import { crc32 } from "./bytes";

export interface Chunk {
  readonly type: string;
  readonly data: Uint8Array;
}

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const FILTERS = [1, 2, 4] as const; // Sub, Up, Paeth
const STRIP_BYTES = 4 * 2 ** 20;

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((value, i) => bytes[i] === value);
}

/** Return the chunks of a PNG in their order, without the pixels. A damaged end is left out. */
export function pngChunks(bytes: Uint8Array): Chunk[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks: Chunk[] = [];
  for (let at = SIGNATURE.length; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    if (at + 12 + length > bytes.length) break;
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type !== "IDAT") chunks.push({ type, data: bytes.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
  }
  return chunks;
}

/** Encode pixels of 8 bits; `chunks` are written before the pixels. */
export async function encodePng(pixels: Pixels, alpha: Alpha | null, chunks: readonly Chunk[]): Promise<Blob> {
  const { height, width } = pixels;
  const samples = pixels.channels + (alpha === null ? 0 : 1);
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bits per sample
  header.setUint8(9, [0, 4, 2, 6][samples - 1]); // grey, grey with alpha, RGB, RGBA
  const parts: Uint8Array[] = [SIGNATURE, ...chunk("IHDR", new Uint8Array(header.buffer))];
  for (const { type, data } of chunks) parts.push(...chunk(type, data));
  const reader = zlib(filteredStrips(pixels, alpha, samples)).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) parts.push(...chunk("IDAT", part.value));
  parts.push(...chunk("IEND", new Uint8Array(0)));
  return new Blob(parts as BlobPart[], { type: "image/png" });
}

/** Compress parts as one zlib stream. */
export function zlib(parts: Iterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = parts[Symbol.iterator]();
  const source = new ReadableStream<Uint8Array>({
    pull(controller) {
      const next = iterator.next();
      if (next.done) controller.close();
      else controller.enqueue(next.value);
    },
  });
  return source.pipeThrough(new CompressionStream("deflate") as ReadableWritablePair<Uint8Array, Uint8Array>);
}

function chunk(type: string, data: Uint8Array): Uint8Array[] {
  const head = new Uint8Array(8);
  new DataView(head.buffer).setUint32(0, data.length);
  for (let i = 0; i < 4; i++) head[4 + i] = type.charCodeAt(i);
  const tail = new Uint8Array(4);
  new DataView(tail.buffer).setUint32(0, crc32(head.subarray(4), data));
  return [head, data, tail];
}

/** Rows with the filter that makes them smallest, each after the number of its filter. */
function* filteredStrips(pixels: Pixels, alpha: Alpha | null, samples: number): Generator<Uint8Array> {
  const length = pixels.width * samples;
  const count = Math.max(1, Math.floor(STRIP_BYTES / (length + 1)));
  let above: Uint8Array = new Uint8Array(length);
  const tried = [new Uint8Array(length), new Uint8Array(length), new Uint8Array(length)];
  for (let top = 0; top < pixels.height; top += count) {
    const rows = Math.min(count, pixels.height - top);
    const strip = new Uint8Array(rows * (length + 1));
    for (let row = 0; row < rows; row++) {
      const line = interleaved(pixels, alpha, top + row, samples);
      const best = filter(line, above, samples, tried);
      strip[row * (length + 1)] = FILTERS[best];
      strip.set(tried[best], row * (length + 1) + 1);
      above = line;
    }
    yield strip;
  }
}

function interleaved(pixels: Pixels, alpha: Alpha | null, row: number, samples: number): Uint8Array {
  const { data, width, channels } = pixels;
  const line = data.subarray(row * width * channels, (row + 1) * width * channels);
  if (alpha === null) return line;
  const result = new Uint8Array(width * samples);
  for (let x = 0; x < width; x++) {
    for (let channel = 0; channel < channels; channel++) result[x * samples + channel] = line[x * channels + channel];
    result[x * samples + channels] = alpha.data[row * width + x];
  }
  return result;
}

/** Filter a row as Sub, Up and Paeth; return the index of the one with the smallest sum of magnitudes. */
function filter(line: Uint8Array, above: Uint8Array, samples: number, results: readonly Uint8Array[]): number {
  const [sub, up, paeth] = results;
  const sums = [0, 0, 0];
  for (let i = 0; i < line.length; i++) {
    const left = i < samples ? 0 : line[i - samples];
    const corner = i < samples ? 0 : above[i - samples];
    const value = line[i];
    sub[i] = value - left;
    up[i] = value - above[i];
    paeth[i] = value - predicted(left, above[i], corner);
    sums[0] += sub[i] < 128 ? sub[i] : 256 - sub[i];
    sums[1] += up[i] < 128 ? up[i] : 256 - up[i];
    sums[2] += paeth[i] < 128 ? paeth[i] : 256 - paeth[i];
  }
  return sums.indexOf(Math.min(...sums));
}

/** Paeth's predictor. */
export function predicted(left: number, above: number, corner: number): number {
  const [toLeft, toAbove] = [Math.abs(above - corner), Math.abs(left - corner)];
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
