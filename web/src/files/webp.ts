/** Chunks of a WebP that hold EXIF, XMP and the colour profile (RIFF container, extended format). */

interface Blocks {
  readonly exif: Uint8Array | null;
  readonly icc: Uint8Array | null;
  readonly xmp: Uint8Array | null;
}

interface RiffChunk {
  readonly type: string;
  readonly data: Uint8Array;
}

const [XMP_FLAG, EXIF_FLAG, ALPHA_FLAG, ICC_FLAG] = [0x04, 0x08, 0x10, 0x20];

/** Read the blocks of a WebP; null if it is none. */
export function readWebp(bytes: Uint8Array): Blocks | null {
  if (name(bytes, 0) !== "RIFF" || name(bytes, 8) !== "WEBP") return null;
  const chunks = riffChunks(bytes);
  const first = (type: string): Uint8Array | null => chunks.find((chunk) => chunk.type === type)?.data ?? null;
  const exif = first("EXIF");
  return { exif: exif && (name(exif, 0) === "Exif" ? exif.subarray(6) : exif), icc: first("ICCP"), xmp: first("XMP ") };
}

/** Return the parts of a WebP with the blocks. */
export function withWebpMetadata(bytes: Uint8Array, { exif, icc, xmp }: Blocks, hasAlpha: boolean): Uint8Array[] {
  const chunks = riffChunks(bytes).filter(({ type }) => !["VP8X", "ICCP", "EXIF", "XMP "].includes(type));
  const header = new Uint8Array(10);
  header[0] = (icc ? ICC_FLAG : 0) | (exif ? EXIF_FLAG : 0) | (xmp ? XMP_FLAG : 0) | (hasAlpha ? ALPHA_FLAG : 0);
  const [width, height] = sizeOf(bytes);
  header.set([(width - 1) & 255, (width - 1) >> 8, 0, (height - 1) & 255, (height - 1) >> 8, 0], 4);
  const all: RiffChunk[] = [{ type: "VP8X", data: header }];
  if (icc) all.push({ type: "ICCP", data: icc });
  all.push(...chunks);
  if (exif) all.push({ type: "EXIF", data: exif });
  if (xmp) all.push({ type: "XMP ", data: xmp });
  const body = all.flatMap(({ type, data }) => [chunkHead(type, data.length), data, new Uint8Array(data.length % 2)]);
  const length = 4 + body.reduce((sum, part) => sum + part.length, 0);
  return [chunkHead("RIFF", length), new TextEncoder().encode("WEBP"), ...body];
}

/** Width and height from the header of the pixels. */
function sizeOf(bytes: Uint8Array): [number, number] {
  for (const { type, data } of riffChunks(bytes)) {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    if (type === "VP8 ") return [view.getUint16(6, true) & 0x3fff, view.getUint16(8, true) & 0x3fff];
    if (type === "VP8L") {
      const bits = view.getUint32(1, true);
      return [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
    }
  }
  throw new Error("the browser wrote a WebP without pixels");
}

function riffChunks(bytes: Uint8Array): RiffChunk[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks: RiffChunk[] = [];
  for (let at = 12; at + 8 <= bytes.length;) {
    const length = view.getUint32(at + 4, true);
    chunks.push({ type: name(bytes, at), data: bytes.subarray(at + 8, at + 8 + length) });
    at += 8 + length + (length % 2);
  }
  return chunks;
}

function chunkHead(type: string, length: number): Uint8Array {
  const head = new Uint8Array(8);
  head.set(new TextEncoder().encode(type));
  new DataView(head.buffer).setUint32(4, length, true);
  return head;
}

function name(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
