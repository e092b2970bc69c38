/** Results → image files, with the metadata of their inputs. */

import type { Alpha } from "../engine/fill_transparent";
import { UserError, type Pixels } from "../engine/images";
import { fitted, metadataChunks, withMetadata, type Format, type Metadata } from "./metadata";
import { encodePng } from "./png";

export interface EncodedPicture {
  readonly blob: Blob;
  readonly notices: readonly string[];
}

const STRIP_PIXELS = 2 ** 22;
const PREVIEW_EDGE = 2048;
const LARGEST_SIDE = { jpeg: 65535, webp: 16383 };

/**
 * Encode a result.
 *
 * `quality` (1 to 100) is for JPEG and WebP. These two are encoded by the browser's canvas, whose size is limited.
 */
export async function encodePicture(
  pixels: Pixels,
  alpha: Alpha | null,
  format: Format,
  quality: number,
  source: Metadata,
): Promise<EncodedPicture> {
  const { width, height } = pixels;
  if (format === "png") {
    const [metadata, notices] = fitted(source, width, height, pixels.channels);
    return { blob: await encodePng(pixels, alpha, await metadataChunks(metadata)), notices };
  }
  const [metadata, notices] = fitted(source, width, height, 3);
  if (source.chunks.some(({ type }) => ["cHRM", "gAMA", "cICP"].includes(type))) {
    notices.push("Colours that the PNG declares without a profile are kept only in a PNG.");
  }
  const flattened = format === "jpeg" && alpha !== null;
  if (flattened) notices.push("JPEG has no transparency: the picture lies on white.");
  const blob = await onCanvas(pixels, alpha, flattened, format, quality);
  return { blob: await withMetadata(blob, format, metadata, alpha !== null && !flattened), notices };
}

async function onCanvas(
  pixels: Pixels,
  alpha: Alpha | null,
  flattened: boolean,
  format: "jpeg" | "webp",
  quality: number,
): Promise<Blob> {
  const { width, height } = pixels;
  const tooLarge = new UserError(
    `This browser cannot write a ${format === "jpeg" ? "JPEG" : "WebP"} of ${width} × ${height} pixels: choose PNG.`,
  );
  if (Math.max(width, height) > LARGEST_SIDE[format]) throw tooLarge;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw tooLarge;
  try {
    const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
    for (let top = 0; top < height; top += rows) {
      const strip = rgbaStrip(pixels, alpha, top, Math.min(rows, height - top), flattened);
      context.putImageData(strip, 0, top);
    }
    const type = `image/${format}`;
    const blob = await canvas.convertToBlob({ type, quality: quality / 100 });
    if (blob.type !== type) throw new UserError("This browser cannot write WebP: choose PNG or JPEG.");
    return blob;
  } catch (error) {
    throw error instanceof UserError ? error : tooLarge;
  }
}

function rgbaStrip(pixels: Pixels, alpha: Alpha | null, top: number, rows: number, flattened: boolean): ImageData {
  const { data, width, channels } = pixels;
  const strip = new ImageData(width, rows);
  for (let i = 0, from = top * width; i < width * rows; i++, from++) {
    const opacity = alpha === null ? 255 : alpha.data[from];
    for (let channel = 0; channel < 3; channel++) {
      const value = data[from * channels + (channels === 3 ? channel : 0)];
      strip.data[4 * i + channel] = flattened ? 255 + ((value - 255) * opacity) / 255 : value;
    }
    strip.data[4 * i + 3] = flattened ? 255 : opacity;
  }
  return strip;
}

/** Return a reduced picture for the screen, or null if the result is small enough to be shown itself. */
export async function encodePreview(pixels: Pixels, alpha: Alpha | null, source: Metadata): Promise<Blob | null> {
  const factor = Math.ceil(Math.max(pixels.width, pixels.height) / PREVIEW_EDGE);
  if (factor <= 2) return null;
  const small = averaged(pixels, factor);
  const wide = alpha && averaged({ ...alpha, channels: 1 }, factor);
  return (await encodePicture(small, wide, "png", 100, { ...source, exif: null, xmp: null })).blob;
}

/** Average blocks of factor x factor pixels; the last ones at a border may be smaller. */
function averaged({ data, height, width, channels }: Pixels, factor: number): Pixels {
  const [rows, cols] = [Math.ceil(height / factor), Math.ceil(width / factor)];
  const result = new Uint8Array(rows * cols * channels);
  const sums = new Float64Array(cols * channels);
  for (let row = 0; row < rows; row++) {
    sums.fill(0);
    const stop = Math.min(height, (row + 1) * factor);
    for (let y = row * factor; y < stop; y++) {
      for (let x = 0, from = y * width * channels; x < width; x++) {
        const to = Math.floor(x / factor) * channels;
        for (let channel = 0; channel < channels; channel++) sums[to + channel] += data[from++];
      }
    }
    for (let col = 0; col < cols; col++) {
      const count = (stop - row * factor) * (Math.min(width, (col + 1) * factor) - col * factor);
      for (let channel = 0; channel < channels; channel++) {
        result[(row * cols + col) * channels + channel] = Math.round(sums[col * channels + channel] / count);
      }
    }
  }
  return { data: result, height: rows, width: cols, channels };
}
