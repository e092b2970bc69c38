/** Changes to an EXIF block in place, as in the package's `images/exif.py`: orientation, sizes, thumbnail. */

const ORIENTATION = 0x0112;
const EXIF_DIRECTORY = 0x8769;
const IMAGE_SIZE = [0x0100, 0x0101] as const;
const COLOR_SPACE = 0xa001;
const PIXEL_SIZE = [0xa002, 0xa003] as const;
const SUBJECTS = [0x9214, 0xa214] as const; // positions in pixels of the old picture
const SHORT = 3;
const LONG = 4;

interface Directory {
  readonly at: number;
  readonly entries: Map<number, number>;
  readonly end: number;
}

/**
 * Fit a block, which starts at its TIFF header, to an upright picture of this size.
 *
 * The thumbnail and the position of the subject are removed. Returns null if the block is damaged.
 */
export function fitExif(block: Uint8Array, width: number, height: number): Uint8Array | null {
  return edited(block, (data, view, order) => {
    const main = directory(view, view.getUint32(4, order), order);
    const orientation = main.entries.get(ORIENTATION);
    if (orientation !== undefined) setEntry(view, orientation, SHORT, 1, order);
    setSize(view, main, IMAGE_SIZE, [width, height], order);
    const pointer = main.entries.get(EXIF_DIRECTORY);
    if (pointer !== undefined) {
      let sub = directory(view, view.getUint32(pointer + 8, order), order);
      for (const tag of SUBJECTS) sub = removed(view, sub, tag, order);
      setSize(view, sub, PIXEL_SIZE, [width, height], order);
    }
    return dropThumbnail(data, view, main.end, order);
  });
}

/** Let a block say that its picture is sRGB, where it says anything about colours; null if it is damaged. */
export function declareSrgb(block: Uint8Array): Uint8Array | null {
  return edited(block, (data, view, order) => {
    const main = directory(view, view.getUint32(4, order), order);
    const pointer = main.entries.get(EXIF_DIRECTORY);
    const { entries } = pointer === undefined ? main : directory(view, view.getUint32(pointer + 8, order), order);
    const entry = entries.get(COLOR_SPACE);
    if (entry !== undefined) setEntry(view, entry, SHORT, 1, order);
    return data;
  });
}

/** Edit a copy of a block; null if it is damaged. The last argument of `edit` is whether it is little-endian. */
function edited(
  block: Uint8Array,
  edit: (data: Uint8Array, view: DataView, order: boolean) => Uint8Array,
): Uint8Array | null {
  const data = block.slice();
  const order = data[0] === 0x49 && data[1] === 0x49;
  if (!order && !(data[0] === 0x4d && data[1] === 0x4d)) return null;
  try {
    return edit(data, new DataView(data.buffer), order);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function directory(view: DataView, at: number, order: boolean): Directory {
  const count = view.getUint16(at, order);
  const end = at + 2 + 12 * count;
  if (end > view.byteLength) throw new RangeError("a directory goes beyond the end");
  const entries = new Map<number, number>();
  for (let entry = at + 2; entry < end; entry += 12) entries.set(view.getUint16(entry, order), entry);
  return { at, entries, end };
}

function setEntry(view: DataView, entry: number, kind: number, value: number, order: boolean): void {
  view.setUint16(entry + 2, kind, order);
  view.setUint32(entry + 4, 1, order);
  view.setUint32(entry + 8, 0, order);
  if (kind === SHORT) view.setUint16(entry + 8, value, order);
  else view.setUint32(entry + 8, value, order);
}

function setSize(
  view: DataView,
  { entries }: Directory,
  tags: readonly number[],
  size: readonly number[],
  order: boolean,
): void {
  tags.forEach((tag, i) => {
    const entry = entries.get(tag);
    if (entry !== undefined) setEntry(view, entry, LONG, size[i], order);
  });
}

/** Remove an entry; those behind it move up, with the offset of the next directory. All else keeps its place. */
function removed(view: DataView, found: Directory, tag: number, order: boolean): Directory {
  const entry = found.entries.get(tag);
  if (entry === undefined) return found;
  const bytes = new Uint8Array(view.buffer);
  const end = Math.min(found.end + 4, bytes.length);
  view.setUint16(found.at, (found.end - found.at - 2) / 12 - 1, order);
  bytes.copyWithin(entry, entry + 12, end);
  bytes.fill(0, end - 12, end);
  return directory(view, found.at, order);
}

/** Erase the second directory, which describes the thumbnail, and cut the thumbnail off where it is last. */
function dropThumbnail(data: Uint8Array, view: DataView, nextAt: number, order: boolean): Uint8Array {
  if (nextAt + 4 > data.length) return data; // some writers omit the offset
  const at = view.getUint32(nextAt, order);
  view.setUint32(nextAt, 0, order);
  if (at === 0) return data;
  const { entries, end } = directory(view, at, order);
  let length = data.length;
  const [offset, size] = [entries.get(0x0201), entries.get(0x0202)];
  if (offset !== undefined && size !== undefined) {
    const start = view.getUint32(offset + 8, order);
    const stop = Math.min(start + view.getUint32(size + 8, order), data.length);
    if (start > nextAt && stop > start) {
      data.fill(0, start, stop);
      if (stop >= data.length - 3) length = start;
    }
  }
  data.fill(0, at, end);
  return data.subarray(0, length);
}

/** Return whether a picture with this block is stored upright. */
export function isUpright(block: Uint8Array): boolean {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const order = block[0] === 0x49;
  try {
    const entry = directory(view, view.getUint32(4, order), order).entries.get(ORIENTATION);
    return entry === undefined || view.getUint16(entry + 8, order) === 1;
  } catch (error) {
    if (error instanceof RangeError) return true;
    throw error;
  }
}
