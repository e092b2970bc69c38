/** EXIF, colour profile and XMP: read from JPEG, PNG and WebP files, and written into results. */

import { joined } from "./bytes";
import { declareSrgb, fitExif } from "./exif";
import { readJpeg, withJpegMetadata } from "./jpeg";
import { isPng, pngChunks, zlib, type Chunk } from "./png";
import { readWebp, withWebpMetadata } from "./webp";

export type Format = "png" | "jpeg" | "webp";

export interface Metadata {
  /** The EXIF block, starting at its TIFF header. */
  readonly exif: Uint8Array | null;
  readonly icc: Uint8Array | null;
  readonly xmp: Uint8Array | null;
  /** Other chunks of a PNG that its result keeps: declared colours, resolution, texts. */
  readonly chunks: readonly Chunk[];
}

/** What is known of a file before it is decoded. */
export interface FileFacts {
  readonly format: Format | null;
  readonly metadata: Metadata;
  /** A PNG with 16 bits a sample, which browsers reduce to 8. */
  readonly sixteenBit: boolean;
}

export const NO_METADATA: Metadata = { exif: null, icc: null, xmp: null, chunks: [] };
const COLOURS = new Set(["cHRM", "gAMA", "sRGB", "cICP"]);
const KEPT_CHUNKS = new Set([...COLOURS, "pHYs", "tEXt", "zTXt", "iTXt"]);
const XMP_KEYWORD = "XML:com.adobe.xmp\0";
const ICC_NAME = new TextEncoder().encode("profile\0\0"); // a name, its end, compression by zlib

/** Read the metadata of a file; formats other than JPEG, PNG and WebP are not read. */
export async function readMetadata(bytes: Uint8Array): Promise<FileFacts> {
  if (bytes[0] === 0xff && bytes[1] === 0xd8) {
    return { format: "jpeg", metadata: { ...readJpeg(bytes), chunks: [] }, sixteenBit: false };
  }
  if (isPng(bytes)) return readPng(bytes);
  const webp = readWebp(bytes);
  if (webp !== null) return { format: "webp", metadata: { ...webp, chunks: [] }, sixteenBit: false };
  return { format: null, metadata: NO_METADATA, sixteenBit: false };
}

async function readPng(bytes: Uint8Array): Promise<FileFacts> {
  const found = pngChunks(bytes);
  const first = (type: string): Uint8Array | null => found.find((chunk) => chunk.type === type)?.data ?? null;
  const profile = first("iCCP");
  const replaced = profile === null ? [] : ["cHRM", "gAMA", "sRGB"];
  const chunks = found.filter(
    ({ type, data }) => KEPT_CHUNKS.has(type) && !replaced.includes(type) && !isXmp(type, data),
  );
  const xmp = found.find(({ type, data }) => isXmp(type, data))?.data ?? null;
  const metadata = {
    exif: first("eXIf"),
    icc: profile && (await inflated(profile.subarray(profile.indexOf(0) + 2))),
    xmp: xmp && xmpOf(xmp),
    chunks,
  };
  return { format: "png", metadata, sixteenBit: first("IHDR")?.[8] === 16 };
}

function isXmp(type: string, data: Uint8Array): boolean {
  return type === "iTXt" && new TextDecoder("latin1").decode(data.subarray(0, XMP_KEYWORD.length)) === XMP_KEYWORD;
}

/** Return the packet in an iTXt chunk if it is stored as it is: keyword, flag, method, language, translated keyword. */
function xmpOf(data: Uint8Array): Uint8Array | null {
  const at = XMP_KEYWORD.length;
  if (data[at] !== 0) return null;
  const language = data.indexOf(0, at + 2);
  const keyword = data.indexOf(0, language + 1);
  return language < 0 || keyword < 0 ? null : data.subarray(keyword + 1);
}

async function inflated(data: Uint8Array): Promise<Uint8Array | null> {
  try {
    const stream = new Blob([data as BlobPart]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    return null; // a damaged profile
  }
}

/**
 * Fit metadata to an upright result in `channels` (1 or 3) of colour.
 *
 * Returns it with a notice for each block that was left out.
 */
export function fitted(metadata: Metadata, width: number, height: number, channels: number): [Metadata, string[]] {
  const notices: string[] = [];
  const exif = metadata.exif && fitExif(metadata.exif, width, height);
  if (metadata.exif && !exif) notices.push("The EXIF data is damaged and left out.");
  let { icc } = metadata;
  if (icc !== null && spaceOf(icc) !== (channels === 1 ? "GRAY" : "RGB ")) {
    icc = null;
    notices.push("The colour profile belongs to another kind of pixels and is left out.");
  }
  return [{ ...metadata, exif, icc, xmp: metadata.xmp && fitXmp(metadata.xmp) }, notices];
}

/** Return the colour space of a profile: "RGB ", "GRAY", "CMYK"; "" if it is none. */
export function spaceOf(icc: Uint8Array): string {
  const text = (from: number, to: number): string => String.fromCharCode(...icc.subarray(from, to));
  return icc.length >= 132 && text(36, 40) === "acsp" ? text(16, 20) : "";
}

/** The packet with an upright orientation, of unchanged length. */
function fitXmp(xmp: Uint8Array): Uint8Array {
  const text = new TextDecoder("latin1").decode(xmp); // one character for each byte
  const upright = text.replace(/(tiff:Orientation(?:="|='|>))[2-8]/g, "$11");
  return Uint8Array.from(upright, (character) => LATIN1.get(character) ?? character.charCodeAt(0));
}

/** What `TextDecoder("latin1")`, which is Windows-1252, makes of bytes above 127 → the byte. */
const LATIN1 = new Map(
  Array.from(new TextDecoder("latin1").decode(Uint8Array.from({ length: 256 }, (_, i) => i)), (character, byte) => [
    character,
    byte,
  ]),
);

/** The metadata without what declares the colours of pixels that are sRGB now. */
export function ofSrgb(metadata: Metadata): Metadata {
  const chunks = metadata.chunks.filter(({ type }) => !COLOURS.has(type));
  return { ...metadata, exif: metadata.exif && declareSrgb(metadata.exif), icc: null, chunks };
}

/** Return chunks of a PNG that hold the metadata. */
export async function metadataChunks({ exif, icc, xmp, chunks }: Metadata): Promise<Chunk[]> {
  const result = [...chunks];
  if (icc !== null) {
    const packed = new Uint8Array(await new Response(zlib([icc])).arrayBuffer());
    result.unshift({ type: "iCCP", data: joined(ICC_NAME, packed) });
  }
  if (exif !== null) result.push({ type: "eXIf", data: exif });
  if (xmp !== null) {
    const head = new TextEncoder().encode(`${XMP_KEYWORD}\0\0\0\0`);
    result.push({ type: "iTXt", data: joined(head, xmp) });
  }
  return result;
}

/** Put metadata into a JPEG or WebP that a browser has encoded, in the place of its own. */
export async function withMetadata(blob: Blob, format: Format, metadata: Metadata, hasAlpha: boolean): Promise<Blob> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const parts = format === "jpeg" ? withJpegMetadata(bytes, metadata) : withWebpMetadata(bytes, metadata, hasAlpha);
  return new Blob(parts as BlobPart[], { type: blob.type });
}
