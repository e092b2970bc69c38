/** The worker: one picture after the other, so that the page stays responsive. */

import { enlargeAlpha } from "../engine/enlarge_alpha";
import { fillTransparent, type Alpha } from "../engine/fill_transparent";
import { UserError, type Pixels, type Span } from "../engine/images";
import { checkOptions, outputSize, visiblePart } from "../engine/options";
import { OutOfMemoryError, restorePixels } from "../engine/restore";
import { decodePicture } from "../files/decode";
import { encodePicture, encodePreview } from "../files/encode";
import type { FromWorker, Result, Settings, ToWorker } from "./messages";
import { openRuntime, type Runtime } from "./runtime";

/** Largest result: 16384 x 16384, 805 MB of RGB. */
const MOST_PIXELS = 2 ** 28;
const SMALL_DEVICE = 4; // GB of memory, as browsers tell it
const TILE_OF_SMALL_DEVICES = 512;

class Cancelled extends Error {}

const cancelled = new Set<number>();
let runtime: Promise<Runtime> | null = null;
let queue: Promise<void> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "open") {
    runtime = openRuntime(data.provider, data.threads);
    runtime.then(
      ({ provider, threads, notice }) => send({ kind: "engine", provider, threads, notice }),
      (error: unknown) => send({ kind: "engine-failed", message: sentence(error) }),
    );
  } else if (data.kind === "cancel") {
    cancelled.add(data.id);
  } else {
    queue = queue.then(() => restoreFile(data.id, data.file, data.settings));
  }
});

function send(message: FromWorker): void {
  self.postMessage(message);
}

async function restoreFile(id: number, file: File, settings: Settings): Promise<void> {
  const checkpoint = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve)); // lets messages of the page in
    if (cancelled.has(id)) throw new Cancelled();
  };
  try {
    const result = await restore(file, settings, checkpoint, async (done, total) => {
      send({ kind: "progress", id, done, total });
      await checkpoint();
    });
    send({ kind: "done", id, result });
  } catch (error) {
    send(error instanceof Cancelled ? { kind: "cancelled", id } : { kind: "failed", id, message: sentence(error) });
  }
  cancelled.delete(id);
}

async function restore(
  file: File,
  settings: Settings,
  checkpoint: () => Promise<void>,
  onTile: (done: number, total: number | null) => Promise<void>,
): Promise<Result> {
  await checkpoint();
  if (runtime === null) throw new Error("the model was not opened");
  const { denoise } = await runtime;
  await onTile(0, null);
  checkOptions(settings);
  const picture = await decodePicture(file, file.name, settings.toSrgb);
  const [height, width] = outputSize(picture.pixels.height, picture.pixels.width, settings);
  if (height * width > MOST_PIXELS) {
    const most = Math.floor(MOST_PIXELS / 1e6);
    throw new UserError(`The result would have ${width} × ${height} pixels; a browser holds at most ${most} million.`);
  }
  const [rows, cols] = visiblePart(picture.pixels.height, picture.pixels.width, settings);
  const { alpha } = picture;
  const pixels = cut(alpha === null ? picture.pixels : fillTransparent(picture.pixels, alpha), rows, cols);
  const restored = await restorePixels(pixels, [height, width], settings, denoise, onTile, largestTile());
  const enlarged = alpha && enlargeAlpha(cutAlpha(alpha, rows, cols), [height, width]);
  const format = settings.format === "same" ? (picture.format ?? "png") : settings.format;
  const { blob, notices } = await encodePicture(restored, enlarged, format, settings.quality, picture.metadata);
  const preview = await encodePreview(restored, enlarged, picture.metadata);
  return { blob, preview, format, width, height, notices: [...picture.notices, ...notices] };
}

/** Edge of the largest tile that "auto" may take. */
function largestTile(): number {
  const memory = (navigator as { deviceMemory?: number }).deviceMemory;
  return memory !== undefined && memory <= SMALL_DEVICE ? TILE_OF_SMALL_DEVICES : Infinity;
}

function cut(pixels: Pixels, rows: Span, cols: Span): Pixels {
  const [height, width] = [rows.stop - rows.start, cols.stop - cols.start];
  if (height === pixels.height && width === pixels.width) return pixels;
  const data = new Uint8Array(height * width * pixels.channels);
  const length = width * pixels.channels;
  for (let y = 0; y < height; y++) {
    const from = ((rows.start + y) * pixels.width + cols.start) * pixels.channels;
    data.set(pixels.data.subarray(from, from + length), y * length);
  }
  return { ...pixels, data, height, width };
}

function cutAlpha(alpha: Alpha, rows: Span, cols: Span): Alpha {
  return cut({ ...alpha, channels: 1 }, rows, cols);
}

/** Say what went wrong, for the page. */
function sentence(error: unknown): string {
  if (error instanceof UserError || error instanceof OutOfMemoryError) return error.message;
  if (error instanceof RangeError) return "Memory ran out; close other pages, or choose a smaller scale.";
  return `It failed: ${error instanceof Error ? error.message : String(error)}`;
}
