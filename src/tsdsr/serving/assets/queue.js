/**
 * The pictures of the page and what becomes of them:
 *
 *   ready → waiting → sending → queued → running → done
 *             (any of them) → failed | cancelled → waiting
 *   done → ready, if the server no longer keeps the result
 *
 * Few are on the server at a time, so that others get their turn; the rest wait here. Events: "change" (`detail` is the
 * picture), "added" (an array), "removed" (the picture).
 */
import { thumbnail } from "./thumbnails.js";
import * as words from "./words.js";

const KEY = "tsdsr-jobs";
const SENDING = 2; // uploads at a time
const ON_SERVER = 6; // jobs of this page that are not finished
const RETRY = 5; // seconds, where a full queue does not say
const BETWEEN_CHECKS = 10_000; // milliseconds between looks for expired results
const UNFINISHED = ["waiting", "sending", "queued", "running"];
const FINAL = ["done", "failed", "cancelled"];
const GONE = "The server no longer keeps this result.";

let number = 0;

export class Queue extends EventTarget {
  pictures = [];
  #server;
  #settings;
  #limits = null;
  #followed = null; // {id, stop}
  #pausedUntil = 0;

  constructor(server, settings) {
    super();
    this.#server = server;
    this.#settings = settings;
    setInterval(() => this.#expire(), BETWEEN_CHECKS);
    server.addEventListener("found", () => this.check()); // it may have been started anew, with nothing kept
  }

  get unfinished() { return this.pictures.filter(({ state }) => UNFINISHED.includes(state)); }
  get ready() { return this.pictures.filter(({ state }) => state === "ready"); }
  get done() { return this.pictures.filter(({ state }) => state === "done"); }

  set limits(limits) {
    this.#limits = limits;
    this.#pump();
  }

  /** Add files and return the pictures. */
  add(files) {
    const added = files.map((file) => ({ key: ++number, file, name: file.name || "Pasted picture", bytes: file.size, state: "ready" }));
    this.pictures.push(...added);
    this.dispatchEvent(new CustomEvent("added", { detail: added }));
    for (const picture of added)
      thumbnail(picture.file).then((small) => {
        if (!small || !this.pictures.includes(picture)) return;
        Object.assign(picture, { thumbnail: small.url, width: small.width, height: small.height });
        this.#tell(picture);
      });
    return added;
  }

  /** Send pictures on their way, with the settings of now. */
  start(pictures = this.ready) {
    for (const picture of pictures) {
      if (!picture.file || UNFINISHED.includes(picture.state)) continue;
      const refusal = this.#refusal(picture);
      Object.assign(picture, { state: "waiting", options: this.#settings.options(), job: null, error: null, share: 0, restarted: false });
      if (refusal) Object.assign(picture, { state: "failed", error: refusal });
      this.#tell(picture);
    }
    this.#pump();
  }

  async cancel(picture) {
    if (!UNFINISHED.includes(picture.state)) return;
    const { job } = picture;
    this.#set(picture, { state: "cancelled" });
    picture.abort?.abort(new DOMException("cancelled", "AbortError"));
    if (job) await this.#server.remove(job.id).catch(() => {}); // it ended meanwhile
  }

  async remove(picture) {
    const { job, state } = picture;
    if (UNFINISHED.includes(state)) await this.cancel(picture);
    this.pictures = this.pictures.filter((other) => other !== picture);
    if (picture.thumbnail) URL.revokeObjectURL(picture.thumbnail);
    this.#remember();
    this.dispatchEvent(new CustomEvent("removed", { detail: picture }));
    this.#pump();
    if (job && state === "done") await this.#server.remove(job.id).catch(() => {}); // it expires anyway
  }

  /** Take up the jobs that this tab had before it was loaded anew. */
  async restore() {
    const kept = remembered();
    const found = await Promise.all(kept.map((id) => this.#server.job(id).catch(() => null)));
    const pictures = found.filter(Boolean).filter(({ state, error }) => state !== "cancelled" || error).map((job) => {
      const picture = { key: ++number, file: null, state: job.state };
      this.#learn(picture, job);
      return picture;
    });
    this.pictures.unshift(...pictures);
    if (pictures.length) this.dispatchEvent(new CustomEvent("added", { detail: pictures }));
    this.#remember();
    this.#pump();
  }

  /** Ask the server whether it still keeps results: it deletes old ones where it needs the room. Return those it has. */
  async check(pictures = this.done) {
    await Promise.all(pictures.filter(({ job }) => job).map(async (picture) => {
      const { job } = picture;
      const found = await this.#server.job(job.id).catch((error) => error);
      if (picture.job === job && (found.status === 404 || (found.id && !found.output))) this.#set(picture, missing(picture));
    }));
    return pictures.filter(({ state }) => state === "done");
  }

  /** Address of a result, or null if the server no longer keeps it. */
  async address(picture) {
    const [kept] = await this.check([picture]);
    return kept ? this.#server.result(kept.job.id) : null;
  }

  /** Why a picture need not be sent at all, or null. */
  #refusal({ bytes, width, height }) {
    const { max_upload_bytes: mostBytes, max_pixels: mostPixels } = this.#limits ?? {};
    if (bytes === 0) return "The file is empty.";
    if (bytes > mostBytes) return `The file has ${words.bytes(bytes)}; this server takes up to ${words.bytes(mostBytes)}.`;
    if (width * height > mostPixels)
      return `The picture has ${Math.round((width * height) / 1e6)} megapixels; this server takes up to ${Math.floor(mostPixels / 1e6)}.`;
    return null;
  }

  #tell(picture) { this.dispatchEvent(new CustomEvent("change", { detail: picture })); }

  #set(picture, what) {
    Object.assign(picture, what);
    this.#remember();
    this.#tell(picture);
    this.#pump();
  }

  #learn(picture, job) {
    const { name, state, input } = job;
    const stopped = job.error?.type === "/problems/stopping";
    const error = state === "failed" || stopped ? (job.error?.detail ?? job.error?.title) : null;
    Object.assign(picture, { job, error, name: picture.name ?? name, bytes: input.bytes, width: input.width, height: input.height });
    picture.state = error ? "failed" : state;
    if (stopped && picture.file) Object.assign(picture, { state: "waiting", job: null, error: null }); // until it is back
    if (state === "done" && !job.output) Object.assign(picture, missing(picture));
  }

  /** Send what can be sent, and follow the first job that is not finished. The server takes them in turn. */
  #pump() {
    const isIn = (...states) => this.pictures.filter(({ state }) => states.includes(state)).length;
    const most = Math.min(ON_SERVER, this.#limits?.queue_size ?? 0);
    while (isIn("sending") < SENDING && isIn("sending", "queued", "running") < most && Date.now() >= this.#pausedUntil) {
      const next = this.pictures.find(({ state }) => state === "waiting");
      if (!next) break;
      this.#send(next);
    }
    this.#follow();
  }

  async #send(picture) {
    const abort = new AbortController();
    Object.assign(picture, { state: "sending", share: 0, abort, held: false });
    this.#tell(picture);
    const told = (share) => {
      picture.share = share;
      if (picture.abort === abort && picture.state === "sending") this.#tell(picture);
    };
    try {
      const job = await this.#server.upload(picture.file, picture.options, told, abort.signal);
      if (picture.abort !== abort || picture.state !== "sending") return this.#server.remove(job.id).catch(() => {});
      this.#learn(picture, job);
      this.#set(picture, {});
      this.#tellPlaces();
    } catch (error) {
      if (picture.abort !== abort || abort.signal.aborted) return;
      if (error.status === 429) this.#pause(picture, error.retryAfter ?? RETRY);
      else if (error.name === "NotFoundError" || error.name === "NotReadableError")
        this.#set(picture, { state: "failed", error: "The file can no longer be read. Add it again." });
      else this.#set(picture, { state: "failed", error: error.message });
    }
  }

  /** The server's queue is full: wait, and lose nothing. */
  #pause(picture, seconds) {
    this.#pausedUntil = Date.now() + seconds * 1000;
    setTimeout(() => this.#pump(), seconds * 1000 + 50);
    this.#set(picture, { state: "waiting", held: true });
  }

  /** What is on the server and not finished, in its order: answers to uploads come in any. */
  get #active() {
    const active = this.pictures.filter(({ job, state }) => job && ["queued", "running"].includes(state));
    return active.sort((a, b) => a.job.created - b.job.created);
  }

  /** Only the first is followed: the places of the others follow from its, but for pictures of other people between. */
  #tellPlaces() {
    const [first, ...others] = this.#active;
    if (!first) return;
    this.#tell(first);
    const ahead = first.state === "running" ? 0 : first.job.position + 1;
    others.forEach((other, place) => {
      if (other.state === "queued") other.job.position = ahead + place;
      this.#tell(other);
    });
  }

  #follow() {
    const [picture] = this.#active;
    if (picture && this.#followed?.id === picture.job.id) return;
    this.#followed?.stop();
    this.#followed = null;
    if (!picture) return;
    const { id } = picture.job;
    const current = () => picture.job?.id === id && this.#active.includes(picture);
    const told = (job) => {
      if (!current()) return;
      this.#learn(picture, job);
      if (FINAL.includes(job.state) || !picture.job) return this.#set(picture, {});
      this.#tellPlaces();
    };
    const lost = (error) => {
      if (current()) this.#lost(picture, error);
    };
    this.#followed = { id, ...this.#server.follow(id, told, lost) };
  }

  /** A job that the server does not know: it was started anew. Send the picture again, once. */
  #lost(picture, error) {
    if (error.status === 404 && picture.file && !picture.restarted)
      this.#set(picture, { state: "waiting", job: null, restarted: true });
    else this.#set(picture, { state: "failed", job: null, error: error.status === 404 ? "The server lost this picture. Add it again." : error.message });
  }

  #expire() {
    for (const picture of this.done)
      if (picture.job.expires && picture.job.expires * 1000 < this.#server.now())
        this.#set(picture, missing(picture));
  }

  #remember() {
    const ids = this.pictures.filter(({ job, state }) => job && state !== "cancelled").map(({ job }) => job.id);
    try {
      sessionStorage.setItem(KEY, JSON.stringify(ids));
    } catch { /* nothing is remembered */ }
  }
}

/** What becomes of a picture whose result is gone: it can be enlarged once more, if this page still has it. */
function missing({ file }) {
  return file ? { state: "ready", job: null, error: GONE } : { state: "failed", job: null, error: `${GONE} Add the picture again.` };
}

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}
