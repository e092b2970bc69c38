/** The pictures as a list: one row each, drawn anew at most once a frame. */
import { byId, element, icon, saveWhenFound, setText } from "./dom.js";
import * as words from "./words.js";

const SMALL = 160; // pixels of a thumbnail from the server

export class List {
  #rows = new Map(); // picture → row
  #stale = new Set();

  /** @param acts {open(picture), again(picture)} */
  constructor(queue, server, settings, acts) {
    Object.assign(this, { queue, server, settings, acts });
    queue.addEventListener("added", ({ detail }) => detail.forEach((picture) => this.#add(picture)));
    queue.addEventListener("change", ({ detail }) => this.#redraw(detail));
    queue.addEventListener("removed", ({ detail }) => this.#remove(detail));
    settings.addEventListener("change", () => queue.ready.forEach((picture) => this.#redraw(picture)));
  }

  #add(picture) {
    const row = new Row(picture, this);
    this.#rows.set(picture, row);
    const next = this.queue.pictures[this.queue.pictures.indexOf(picture) + 1];
    byId("pictures").insertBefore(row.item, this.#rows.get(next)?.item ?? null);
    this.#redraw(picture);
  }

  #redraw(picture) {
    if (!this.#rows.has(picture)) return;
    if (this.#stale.size === 0) requestAnimationFrame(() => {
      const stale = [...this.#stale];
      this.#stale.clear();
      for (const each of stale) this.#rows.get(each)?.draw();
    });
    this.#stale.add(picture);
  }

  #remove(picture) {
    const { item } = this.#rows.get(picture);
    const neighbour = item.nextElementSibling ?? item.previousElementSibling;
    const focused = item.contains(document.activeElement);
    item.remove();
    this.#rows.delete(picture);
    if (focused) (neighbour?.querySelector(".remove") ?? byId("choose-first")).focus();
  }

  focus(picture) { this.#rows.get(picture)?.picture.focus(); }
}

class Row {
  constructor(picture, list) {
    Object.assign(this, { model: picture, list });
    const { queue, server, acts } = list;
    const act = (name, drawing, label, call) => {
      const button = element("button", { type: "button", class: `quiet ${name}`, title: label }, icon(drawing));
      button.setAttribute("aria-label", `${label}: ${picture.name}`);
      button.addEventListener("click", call);
      return button;
    };
    this.image = element("img", { alt: "", loading: "lazy", decoding: "async", draggable: false, hidden: true });
    this.image.addEventListener("error", () => { this.image.hidden = true; });
    this.picture = element("button", { type: "button", class: "thumbnail" }, this.image);
    this.picture.addEventListener("click", () => acts.open(picture));
    this.name = element("p", { class: "name", dir: "auto", title: picture.name, textContent: picture.name });
    this.sizes = element("p", { class: "sizes" });
    this.progress = element("progress", { max: 1, "aria-label": `Progress of ${picture.name}` });
    this.status = element("p", { class: "status" });
    this.notes = element("details", { class: "notes", hidden: true });
    this.compare = element("button", { type: "button", class: "compare" }, icon("compare"), element("span", { textContent: "Compare" }));
    this.compare.setAttribute("aria-label", `Compare before and after: ${picture.name}`);
    this.compare.addEventListener("click", () => acts.open(picture));
    this.download = element("a", { class: "button download", download: "", title: "Download" }, icon("download"));
    this.download.setAttribute("aria-label", `Download: ${picture.name}`);
    saveWhenFound(this.download, () => queue.address(picture));
    this.again = act("again", "again", "Redo with the current settings", () => acts.again(picture));
    this.cancel = act("cancel", "close", "Cancel", () => queue.cancel(picture));
    this.remove = act("remove", "bin", "Remove", () => queue.remove(picture));
    const text = element("div", { class: "text" }, this.name, this.sizes, this.progress, this.status, this.notes);
    const actions = element("div", { class: "actions" }, this.compare, this.download, this.again, this.cancel, this.remove);
    this.item = element("li", {}, this.picture, text, actions);
    this.server = server;
  }

  draw() {
    const { model: picture } = this;
    const { state, job } = picture;
    const active = ["waiting", "sending", "queued", "running"].includes(state);
    this.item.dataset.state = state;
    this.#thumbnail();
    this.picture.disabled = state !== "done";
    this.picture.setAttribute("aria-label", `Compare before and after: ${picture.name}`);
    setText(this.sizes, this.#sizes());
    this.progress.hidden = !["sending", "running"].includes(state);
    const share = state === "sending" ? picture.share : job?.tiles_total ? job.tiles_done / job.tiles_total : null;
    if (share === null) this.progress.removeAttribute("value");
    else this.progress.value = share;
    setText(this.status, this.#status());
    this.status.hidden = !this.status.textContent;
    this.#notices(job?.notices ?? []);
    this.compare.hidden = this.download.hidden = state !== "done";
    if (state === "done") Object.assign(this.download, { href: this.server.result(job.id), download: job.output.name });
    this.again.hidden = !picture.file || !["done", "failed", "cancelled"].includes(state);
    this.cancel.hidden = !active;
    this.remove.hidden = active;
  }

  #thumbnail() {
    const { thumbnail, job } = this.model;
    const address = thumbnail ?? (job ? this.server.preview(job.id, "before", SMALL) : null);
    if (!address || this.image.getAttribute("src") === address) return;
    this.image.hidden = false;
    this.image.src = address;
  }

  #sizes() {
    const { model: picture } = this;
    const before = picture.width ? words.pixels(picture) : words.bytes(picture.bytes);
    const result = picture.job?.output ?? (picture.state === "ready" ? this.list.settings.result(picture) : null);
    if (!result) return before;
    const rest = picture.job?.output ? ` · ${result.format.toUpperCase()}, ${words.bytes(result.bytes)}` : "";
    return `${before} → ${words.pixels(result)}${rest}`;
  }

  #status() {
    const { state, job, share, error, held } = this.model;
    if (state === "waiting") return held ? "The server's queue is full. This picture waits for its turn." : "Waiting";
    if (state === "sending") return share < 1 ? `Sending, ${Math.round(share * 100)} %` : "Checking";
    if (state === "queued") return job.position ? `Waiting, ${job.position} ahead` : "Waiting, next in turn";
    if (state === "running") {
      const tiles = job.tiles_total ? `Tile ${Math.min(job.tiles_done + 1, job.tiles_total)} of ${job.tiles_total}` : "Starting";
      return job.seconds_left == null ? tiles : `${tiles} · ${words.about(job.seconds_left)} left`;
    }
    return { ready: error, failed: error && plain(error, this.model.name), cancelled: "Cancelled" }[state] ?? "";
  }

  #notices(notices) {
    if (this.notes.children.length || !notices.length) return;
    this.notes.append(
      element("summary", { textContent: words.count(notices.length, "note") }),
      element("ul", {}, ...notices.map((notice) => element("li", { textContent: notice }))),
    );
    this.notes.hidden = false;
  }
}

/** The server's sentence without the name, which stands above it already. */
function plain(error, name) {
  if (!error.startsWith(`${name}: `)) return error;
  const rest = error.slice(name.length + 2);
  return /^(is|has|cannot|contains|needs|ends|could) /.test(rest) ? `The file ${rest}` : rest[0].toUpperCase() + rest.slice(1);
}
