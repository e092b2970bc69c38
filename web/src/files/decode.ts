/** Image files → pictures, by the browser's decoders and without any conversion of colours unless sRGB is wanted. */

import type { Alpha } from "../engine/fill_transparent";
import { UserError, type Pixels } from "../engine/images";
import { isUpright } from "./exif";
import { ofSrgb, readMetadata, spaceOf, type FileFacts } from "./metadata";
import { decodeTransparentPng } from "./png_pixels";

export interface Picture extends FileFacts {
  readonly pixels: Pixels;
  readonly alpha: Alpha | null;
  readonly notices: readonly string[];
}

const STRIP_PIXELS = 2 ** 22;

/** Decode a file, upright by its EXIF orientation. A picture without any colour becomes grey, of one channel. */
export async function decodePicture(file: Blob, name: string, toSrgb: boolean): Promise<Picture> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const found = await readMetadata(bytes);
  const facts = toSrgb ? { ...found, metadata: ofSrgb(found.metadata) } : found;
  const bitmap = await createImageBitmap(file, {
    colorSpaceConversion: toSrgb ? "default" : "none",
    imageOrientation: "from-image",
    premultiplyAlpha: "none",
  }).catch(() => {
    throw new UserError(`${name}: this browser cannot read it as a picture.`);
  });
  const { width, height } = bitmap;
  const samples = new Samples(height, width);
  readBitmap(bitmap, samples);
  bitmap.close();
  if (
    facts.format === "png" &&
    !toSrgb &&
    samples.transparent &&
    (facts.metadata.exif === null || isUpright(facts.metadata.exif))
  ) {
    await decodeTransparentPng(bytes, (rgba, at) => samples.add(rgba, at));
  }
  const alpha = samples.transparent ? { data: samples.alpha, height, width } : null;
  return { ...facts, pixels: samples.pixels(facts), alpha, notices: noticesOf(facts) };
}

function noticesOf({ format, sixteenBit, metadata }: FileFacts): string[] {
  const notices: string[] = [];
  if (sixteenBit) notices.push("16 bits become 8.");
  if (format === null) notices.push("Metadata of this format (EXIF, colour profile) is not kept.");
  if (metadata.icc !== null && spaceOf(metadata.icc) === "CMYK") notices.push("CMYK is converted without its profile.");
  return notices;
}

/** RGB and alpha that arrive as rows of RGBA. */
class Samples {
  readonly colours: Uint8Array;
  readonly alpha: Uint8Array;
  transparent = false;
  private grey = true;

  constructor(
    readonly height: number,
    readonly width: number,
  ) {
    this.colours = new Uint8Array(height * width * 3);
    this.alpha = new Uint8Array(height * width);
  }

  /** Add pixels from the place `at`; replaces what was added there. */
  add(rgba: ArrayLike<number>, at: number): void {
    for (let from = 0, to = at * 3, pixel = at; from < rgba.length; from += 4, to += 3, pixel++) {
      const [r, g, b] = [rgba[from], rgba[from + 1], rgba[from + 2]];
      this.colours[to] = r;
      this.colours[to + 1] = g;
      this.colours[to + 2] = b;
      this.alpha[pixel] = rgba[from + 3];
      if (r !== g || g !== b) this.grey = false;
      if (rgba[from + 3] !== 255) this.transparent = true;
    }
  }

  pixels({ metadata }: FileFacts): Pixels {
    const { height, width, colours } = this;
    // A profile for colours needs pixels with colours.
    if (!this.grey || (metadata.icc !== null && spaceOf(metadata.icc) === "RGB ")) {
      return { data: colours, height, width, channels: 3 };
    }
    return { data: Uint8Array.from(this.alpha, (_, i) => colours[3 * i]), height, width, channels: 1 };
  }
}

function readBitmap(bitmap: ImageBitmap, samples: Samples): void {
  const { width, height } = bitmap;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  if (context === null) throw new UserError(`A picture of ${width} × ${height} pixels is too wide for this browser.`);
  for (let top = 0; top < height; top += rows) {
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    samples.add(context.getImageData(0, 0, width, Math.min(rows, height - top)).data, top * width);
  }
}
