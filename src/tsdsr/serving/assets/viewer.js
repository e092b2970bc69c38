/** The window that compares a picture with its result, and goes through all finished ones. */
import { byId, saveWhenFound, setText } from "./dom.js";
import * as words from "./words.js";

const EDGE = 2048; // pixels of the first pictures; larger ones come when somebody looks closely
const LARGEST_EDGE = 4096; // of a preview
const SHOWN_BY_BROWSERS = ["image/png", "image/jpeg", "image/webp", "image/avif"];
const MOST_PIXELS = 120e6; // of a result that a browser is given whole

export class Viewer {
  #dialog = byId("viewer");
  #element = byId("comparison");
  #picture = null;
  #original = null; // address of the file on this device

  constructor(queue, server, closed) {
    Object.assign(this, { queue, server });
    byId("previous").addEventListener("click", () => this.#step(-1));
    byId("next").addEventListener("click", () => this.#step(1));
    saveWhenFound(byId("viewer-download"), () => queue.address(this.#picture));
    byId("close-viewer").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => {
      this.#release();
      closed(this.#picture);
    });
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    queue.addEventListener("removed", () => this.#buttons());
    queue.addEventListener("change", () => this.#buttons());
  }

  open(picture) {
    this.#show(picture);
    this.#dialog.showModal();
    byId("viewer-name").focus(); // so that the arrows go to other pictures, not to the divider
  }

  #show(picture) {
    const { job, file } = picture;
    const { output, input } = job;
    this.#picture = picture;
    this.#release();
    if (file && SHOWN_BY_BROWSERS.includes(file.type)) this.#original = URL.createObjectURL(file);
    const whole = SHOWN_BY_BROWSERS.includes(output.media_type) && output.width * output.height <= MOST_PIXELS;
    Object.assign(this.#element, {
      before: this.server.preview(job.id, "before", EDGE),
      after: this.server.preview(job.id, "after", EDGE),
      beforeFull: Math.max(input.width, input.height) > EDGE ? (this.#original ?? this.server.preview(job.id, "before", LARGEST_EDGE)) : null,
      afterFull: Math.max(output.width, output.height) > EDGE ? (whole ? this.server.shown(job.id) : this.server.preview(job.id, "after", LARGEST_EDGE)) : null,
      width: output.width,
      height: output.height,
      fit: job.options.fit === "cover" ? "cover" : "fill",
      alt: picture.name,
      beforeLabel: `Before · ${words.pixels(input)}`,
      afterLabel: `After · ${words.pixels(output)}`,
    });
    setText(byId("viewer-name"), picture.name);
    Object.assign(byId("viewer-download"), { href: this.server.result(job.id), download: output.name });
    this.#buttons();
  }

  #release() {
    if (this.#original) URL.revokeObjectURL(this.#original);
    this.#original = null;
  }

  #buttons() {
    const { done } = this.queue;
    const place = done.indexOf(this.#picture);
    const many = done.length > 1;
    byId("previous").hidden = byId("next").hidden = !many;
    byId("previous").setAttribute("aria-disabled", place <= 0);
    byId("next").setAttribute("aria-disabled", place === done.length - 1);
    setText(byId("viewer-place"), many && place >= 0 ? `${place + 1} of ${done.length}` : "");
  }

  #step(by) {
    const { done } = this.queue;
    const next = done[done.indexOf(this.#picture) + by];
    if (next) this.#show(next);
  }

  #key(event) {
    const onDivider = event.composedPath()[0] instanceof HTMLInputElement;
    if (onDivider || event.shiftKey || event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.#step(step);
  }
}
