/**
 * What the page takes for its server: the worker, on this device. The methods are those of the server's own
 * `server.js`; the build puts this module in its place.
 */

import { downloadZip } from "client-zip";
import type { FromWorker, Result, ToWorker } from "../worker/messages";
import Worker from "../worker/worker.ts?worker";
import { FORMATS, outputOf, secondsLeft, settingsOf, type Job, type Options } from "./jobs";

const WAITING_IN_WORKER = 1000; // jobs; they only hold their files
const MOST_PIXELS = 2 ** 28;
const MOST_BYTES = 2 ** 31;
const STOPPED =
  "The model stopped, probably for lack of memory. Close other pages, choose a smaller scale, and try again.";
const KEPT_FOR = 60_000; // milliseconds for the browser to save an archive

/** `?wasm` leaves out WebGPU, `?threads=1` and `?tile=512` set limits: for tests, and for drivers with faults. */
const ADDRESS = new URLSearchParams(location.search);

/** A job with what is known of it only here. */
interface Entry {
  readonly job: Job;
  readonly file: File;
  readonly before: string;
  started: number;
  result: { readonly blob: Blob; readonly url: string; readonly preview: string } | null;
  told: ((job: Job) => void) | null;
}

class Problem extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export class Server extends EventTarget {
  private readonly entries = new Map<number, Entry>();
  private readonly opened: Promise<string>;
  private worker = new Worker();
  private works = false; // whether the present worker has opened the model
  private number = 0;
  private packed: readonly number[] = [];

  constructor() {
    super();
    document.getElementById("zip")?.addEventListener("click", (event) => void this.pack(event));
    this.opened = new Promise((resolve) => this.open(resolve));
  }

  /** Listen to the worker and let it open the model; `told` gets what runs it. */
  private open(told: (words: string) => void): void {
    this.worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
      if (data.kind === "engine") {
        this.works = true;
        told(engineWords(data));
      } else if (data.kind === "engine-failed") told(`mini: not loaded. ${data.message}`);
      else this.receive(data);
    });
    this.worker.addEventListener("error", () => {
      told("mini: not loaded. Load the page again.");
      this.replaceWorker();
    });
    const threads = Number(ADDRESS.get("threads")) || null;
    this.post({ kind: "open", provider: ADDRESS.has("wasm") ? "wasm" : "auto", threads });
  }

  /** A worker that died, for lack of memory, takes its jobs with it. */
  private replaceWorker(): void {
    if (this.works) {
      this.worker.terminate();
      this.worker = new Worker();
      this.works = false;
      this.open(() => {});
    }
    for (const { job, told } of this.entries.values()) {
      if (job.state !== "queued" && job.state !== "running") continue;
      Object.assign(job, { state: "failed", error: { detail: STOPPED } });
      told?.({ ...job });
    }
  }

  now(): number {
    return Date.now();
  }

  async limits() {
    return { max_upload_bytes: MOST_BYTES, max_pixels: MOST_PIXELS, queue_size: WAITING_IN_WORKER, formats: FORMATS };
  }

  async models() {
    return [{ name: await this.opened, default: true }];
  }

  async job(id: number): Promise<Job> {
    const entry = this.entries.get(id);
    if (entry === undefined) throw new Problem("no such job", 404);
    return { ...entry.job };
  }

  async present(): Promise<void> {}

  /** Take a picture; the worker restores one after the other. */
  async upload(file: File, options: Options, told: (share: number) => void, signal: AbortSignal): Promise<Job> {
    told(1);
    const bitmap = await createImageBitmap(file).catch(() => {
      throw new Problem(`${file.name}: cannot be read as a picture by this browser.`, 415);
    });
    const input = { width: bitmap.width, height: bitmap.height, bytes: file.size };
    bitmap.close();
    signal.throwIfAborted();
    const id = ++this.number;
    const unfinished = [...this.entries.values()].filter(
      ({ job }) => job.state === "queued" || job.state === "running",
    );
    const job: Job = {
      ...{ id, name: file.name, created: Date.now() / 1000, options, input, expires: null, state: "queued" },
      ...{ position: unfinished.length, tiles_done: 0, tiles_total: null, seconds_left: null },
      ...{ notices: [], error: null, output: null },
    };
    this.entries.set(id, { job, file, before: URL.createObjectURL(file), started: 0, result: null, told: null });
    this.post({ kind: "restore", id, file, settings: settingsOf(options, tileOf(ADDRESS)) });
    return { ...job };
  }

  /** Cancel a job, or forget a finished one. */
  async remove(id: number): Promise<void> {
    const entry = this.entries.get(id);
    if (entry === undefined) return;
    this.entries.delete(id);
    this.post({ kind: "cancel", id });
    for (const url of [entry.before, entry.result?.url, entry.result?.preview]) if (url) URL.revokeObjectURL(url);
  }

  /** Address of a picture for the screen; results come reduced if they are large. */
  preview(id: number, which: "before" | "after"): string {
    const entry = this.entries.get(id);
    return (which === "before" ? entry?.before : entry?.result?.preview) ?? "";
  }

  result(id: number): string {
    return this.entries.get(id)?.result?.url ?? "";
  }

  /** Address of a whole result for the screen. */
  shown(id: number): string {
    return this.result(id);
  }

  /** Address for the link that saves all results; its click packs them. */
  zip(ids: readonly number[]): string {
    this.packed = ids;
    return "#all";
  }

  private async pack(event: Event): Promise<void> {
    event.preventDefault();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await this.packedFiles(this.packed));
    link.download = "enlarged.zip";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), KEPT_FOR);
  }

  private packedFiles(ids: readonly number[]): Promise<Blob> {
    const used = new Map<string, number>();
    const files = ids.flatMap((id) => {
      const entry = this.entries.get(id);
      if (!entry?.result || !entry.job.output) return [];
      return [{ name: unique(entry.job.output.name, used), lastModified: new Date(), input: entry.result.blob }];
    });
    return downloadZip(files).blob();
  }

  /** Call `told(job)` at each change of a job. */
  follow(id: number, told: (job: Job) => void, lost: (error: Problem) => void): { stop: () => void } {
    const entry = this.entries.get(id);
    if (entry === undefined) {
      lost(new Problem("no such job", 404));
      return { stop: () => {} };
    }
    entry.told = told;
    queueMicrotask(() => entry.told?.({ ...entry.job }));
    return { stop: () => (entry.told = null) };
  }

  private post(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private receive(message: Exclude<FromWorker, { kind: "engine" | "engine-failed" }>): void {
    const entry = this.entries.get(message.id);
    if (entry === undefined) return; // it was removed
    const { job } = entry;
    if (message.kind === "progress") {
      if (message.done === 0) Object.assign(entry, { started: performance.now() });
      const seconds = (performance.now() - entry.started) / 1000;
      Object.assign(job, { state: "running", position: null, tiles_done: message.done, tiles_total: message.total });
      job.seconds_left = message.total === null ? null : secondsLeft(seconds, message.done, message.total);
    } else if (message.kind === "done") {
      this.finish(entry, message.result);
    } else if (message.kind === "failed") {
      Object.assign(job, { state: "failed", error: { detail: message.message } });
    } else {
      job.state = "cancelled";
    }
    entry.told?.({ ...job });
  }

  private finish(entry: Entry, result: Result): void {
    const url = URL.createObjectURL(result.blob);
    const preview = result.preview === null ? url : URL.createObjectURL(result.preview);
    entry.result = { blob: result.blob, url, preview };
    const output = outputOf(entry.job.name, result);
    Object.assign(entry.job, { state: "done", seconds_left: null, notices: result.notices, output });
  }
}

function tileOf(address: URLSearchParams): number | "auto" {
  return Number(address.get("tile")) || "auto";
}

function engineWords({ provider, threads, notice }: Extract<FromWorker, { kind: "engine" }>): string {
  const where = provider === "webgpu" ? "WebGPU" : `${threads} thread${threads > 1 ? "s" : ""}`;
  return `mini · ${where}${notice === null ? "" : `. ${notice}`}`;
}

function unique(name: string, used: Map<string, number>): string {
  const count = used.get(name) ?? 0;
  used.set(name, count + 1);
  return count === 0 ? name : name.replace(/(\.[^.]*)?$/, `-${count + 1}$1`);
}
