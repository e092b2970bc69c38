import { describe, expect, it } from "vitest";
import { joined } from "../src/files/bytes";
import { declareSrgb, fitExif, isUpright } from "../src/files/exif";
import { fitted, metadataChunks, NO_METADATA, readMetadata, withMetadata } from "../src/files/metadata";
import { encodePng, pngChunks } from "../src/files/png";
import { decodeTransparentPng } from "../src/files/png_pixels";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A little-endian block with an orientation of 6, a width of 10 in the EXIF directory, and a thumbnail of 4 bytes. */
function exifBlock(): Uint8Array {
  const view = new DataView(new ArrayBuffer(90));
  const put = (at: number, tag: number, kind: number, value: number): void => {
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, kind, true);
    view.setUint32(at + 4, 1, true);
    view.setUint32(at + 8, value, true);
  };
  view.setUint32(0, 0x002a4949, true);
  view.setUint32(4, 8, true);
  view.setUint16(8, 2, true);
  put(10, 0x0112, 3, 6);
  put(22, 0x8769, 4, 56);
  view.setUint32(34, 38, true); // the directory of the thumbnail
  view.setUint16(38, 1, true);
  put(40, 0x0201, 4, 86);
  view.setUint16(56, 2, true);
  put(58, 0xa002, 4, 10);
  put(70, 0x9214, 3, 5);
  return new Uint8Array(view.buffer);
}

const PROFILE = new Uint8Array(200);
PROFILE.set(text("RGB "), 16);
PROFILE.set(text("acsp"), 36);
const PIXELS = { data: Uint8Array.from({ length: 5 * 4 * 3 }, (_, i) => i * 37), height: 4, width: 5, channels: 3 };
const ALPHA = { data: Uint8Array.from({ length: 20 }, (_, i) => i * 12), height: 4, width: 5 };
const METADATA = { exif: exifBlock(), icc: PROFILE, xmp: text('<x tiff:Orientation="6"/>'), chunks: [] };

describe("EXIF", () => {
  it("becomes upright, with the size of the result", () => {
    const fit = fitExif(exifBlock(), 40, 30)!;
    const view = new DataView(fit.buffer);
    expect(isUpright(exifBlock())).toBe(false);
    expect(isUpright(fit)).toBe(true);
    expect(view.getUint32(66, true)).toBe(40);
    expect(view.getUint32(34, true)).toBe(0); // no thumbnail
    expect(view.getUint16(56, true)).toBe(1); // no position of the subject
  });
  it("declares sRGB where it declares another space", () => {
    const block = exifBlock();
    new DataView(block.buffer).setUint16(70, 0xa001, true); // in the place of the subject's position
    expect(new DataView(declareSrgb(block)!.buffer).getUint32(78, true)).toBe(1);
    expect(declareSrgb(exifBlock())).toEqual(exifBlock());
  });
  it("is left out where it is damaged", () => {
    expect(fitExif(exifBlock().subarray(0, 20), 4, 4)).toBeNull();
    expect(fitExif(text("nothing at all"), 4, 4)).toBeNull();
  });
});

describe("PNG", () => {
  it("gives back its pixels, with and without alpha", async () => {
    const bytes = new Uint8Array(await (await encodePng(PIXELS, ALPHA, [])).arrayBuffer());
    const rows: number[] = [];
    expect(await decodeTransparentPng(bytes, (row) => rows.push(...row))).toBe(true);
    for (let i = 0; i < 20; i++)
      expect(rows.slice(4 * i, 4 * i + 4)).toEqual([...PIXELS.data.subarray(3 * i, 3 * i + 3), ALPHA.data[i]]);
  });
  it("keeps its metadata and declared colours", async () => {
    const chunks = [{ type: "pHYs", data: Uint8Array.of(0, 0, 11, 19, 0, 0, 11, 19, 1) }];
    const blob = await encodePng(PIXELS, null, await metadataChunks({ ...METADATA, chunks }));
    const { format, metadata } = await readMetadata(new Uint8Array(await blob.arrayBuffer()));
    expect(format).toBe("png");
    expect(metadata).toEqual({ ...METADATA, chunks });
    expect(pngChunks(new Uint8Array(await blob.arrayBuffer())).map(({ type }) => type)).toEqual([
      "IHDR",
      "iCCP",
      "pHYs",
      "eXIf",
      "iTXt",
      "IEND",
    ]);
  });
});

describe("JPEG and WebP", () => {
  const jpeg = joined(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xda, 0, 2, 9, 9));
  const lossless = Uint8Array.of(0x2f, 4, 0xc0, 0, 0, 0); // 5 x 4
  const webp = joined(text("RIFF"), Uint8Array.of(18, 0, 0, 0), text("WEBPVP8L"), Uint8Array.of(6, 0, 0, 0), lossless);
  it.each([
    ["jpeg", jpeg],
    ["webp", webp],
  ] as const)("%s keeps metadata", async (format, bytes) => {
    const blob = await withMetadata(new Blob([bytes as BlobPart]), format, METADATA, false);
    const again = await withMetadata(blob, format, METADATA, false);
    expect(again.size).toBe(blob.size); // in the place of what was there
    const found = await readMetadata(new Uint8Array(await again.arrayBuffer()));
    expect(found).toEqual({ format, metadata: METADATA, sixteenBit: false });
  });
  it("splits long profiles over segments of a JPEG", async () => {
    const icc = joined(PROFILE, new Uint8Array(150_000).fill(5));
    const blob = await withMetadata(new Blob([jpeg as BlobPart]), "jpeg", { ...NO_METADATA, icc }, false);
    const found = (await readMetadata(new Uint8Array(await blob.arrayBuffer()))).metadata.icc!;
    expect(Buffer.compare(found, icc)).toBe(0);
  });
});

describe("metadata of a result", () => {
  it("is fitted, and loses a profile of other pixels with a notice", () => {
    const [metadata, notices] = fitted(METADATA, 20, 16, 1);
    expect([metadata.icc, notices.length]).toEqual([null, 1]);
    expect(isUpright(metadata.exif!)).toBe(true);
    expect(new TextDecoder().decode(metadata.xmp!)).toBe('<x tiff:Orientation="1"/>');
  });
});
