/** Segments of a JPEG that hold EXIF, XMP and the colour profile. */

import { joined } from "./bytes";

interface Blocks {
  readonly exif: Uint8Array | null;
  readonly icc: Uint8Array | null;
  readonly xmp: Uint8Array | null;
}

const EXIF = "Exif\0\0";
const XMP = "http://ns.adobe.com/xap/1.0/\0";
const ICC = "ICC_PROFILE\0";
const LARGEST = 65533; // bytes of a segment after its length
const [APP0, APP1, APP2] = [0xe0, 0xe1, 0xe2];

/** Read the blocks of a JPEG; a damaged end is left out. */
export function readJpeg(bytes: Uint8Array): Blocks {
  let [exif, xmp] = [null as Uint8Array | null, null as Uint8Array | null];
  const pieces: Uint8Array[] = [];
  for (const { marker, data } of segments(bytes)) {
    if (marker === APP1 && startsWith(data, EXIF)) exif ??= data.subarray(EXIF.length);
    if (marker === APP1 && startsWith(data, XMP)) xmp ??= data.subarray(XMP.length);
    if (marker === APP2 && startsWith(data, ICC)) pieces[data[ICC.length]] = data.subarray(ICC.length + 2);
  }
  const known = pieces.filter((piece) => piece !== undefined); // they are numbered from 1
  return { exif, icc: known.length ? joined(...known) : null, xmp };
}

/** Return the parts of a JPEG with the blocks behind its first segment, and without such blocks of its own. */
export function withJpegMetadata(bytes: Uint8Array, { exif, icc, xmp }: Blocks): Uint8Array[] {
  const inserted: Uint8Array[] = [];
  for (const [name, block] of [
    [EXIF, exif],
    [XMP, xmp],
  ] as const) {
    if (block !== null && block.length + name.length <= LARGEST) inserted.push(segment(APP1, text(name), block));
  }
  if (icc !== null) {
    const room = LARGEST - ICC.length - 2;
    const count = Math.ceil(icc.length / room);
    for (let i = 0; i < count; i++) {
      const piece = icc.subarray(i * room, (i + 1) * room);
      inserted.push(segment(APP2, text(ICC), Uint8Array.of(i + 1, count), piece));
    }
  }
  const parts = [bytes.subarray(0, 2)];
  let rest = 2;
  for (const { marker, data, end } of segments(bytes)) {
    if (marker !== APP0) parts.push(...inserted.splice(0));
    const replaced =
      marker === APP1 ? startsWith(data, EXIF) || startsWith(data, XMP) : marker === APP2 && startsWith(data, ICC);
    if (!replaced) parts.push(bytes.subarray(rest, end));
    rest = end;
  }
  return [...parts, ...inserted, bytes.subarray(rest)];
}

function* segments(bytes: Uint8Array): Generator<{ marker: number; data: Uint8Array; end: number }, undefined> {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at++; // fill bytes
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return undefined; // the pixels begin
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    if (end > bytes.length) return undefined;
    yield { marker, data: bytes.subarray(at + 4, end), end };
    at = end;
  }
  return undefined;
}

function segment(marker: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = 2 + parts.reduce((sum, part) => sum + part.length, 0);
  const result = new Uint8Array(2 + length);
  result.set([0xff, marker, length >> 8, length & 255]);
  let at = 4;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function startsWith(data: Uint8Array, name: string): boolean {
  return data.length > name.length && text(name).every((value, i) => data[i] === value);
}
