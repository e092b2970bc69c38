/**
 * <before-after>: two pictures of one scene on top of each other, with a divider to move and one magnification for both.
 * It knows nothing of where the pictures come from. It needs no style sheet and no other request than the pictures'.
 *
 *   <before-after before="small.jpg" after="large.png" width="2048" height="1536"></before-after>
 *
 * Attributes (each is a property of the same name in camelCase too, a string or null)
 *   before, after    addresses of the pictures. Without `after`, `before` is shown alone. Another address shows another
 *                    pair: it is fitted, and the divider stays.
 *   before-full,     addresses of larger versions, fetched only when somebody looks closer than `before` and `after`
 *   after-full       can show. Optional.
 *   width, height    size of the whole result in pixels, if `after` is a reduced picture of it: 100 % means one of its
 *                    pixels for one of the screen's. Default: the size of `after`.
 *   fit              "fill" (default): `before` is stretched over the area of `after`; "cover": `after` shows the middle
 *                    of `before`.
 *   before-label,    what the two are called. Default: "Before", "After".
 *   after-label
 *   alt              what the pictures show, for screen readers.
 *   inline           the element is a part of a page that scrolls: the wheel enlarges only if Ctrl is held or the picture
 *                    is enlarged already.
 *   plain            no bar of buttons.
 *
 * Properties
 *   value            position of the divider in percent of the visible width, 0 (all after) to 100 (all before).
 *   zoom             screen pixels for a pixel of the result; `element.zoom = 1` is 100 %.
 *   fitted           whether the whole picture is shown (read only).
 *   original         true: `before` alone is shown.
 *
 * Methods            zoomBy(factor), showAll(), toggleFullScreen()
 * Events             "ready": the pictures can be seen; "failed": one of them could not be loaded (`detail.which` is
 *                    "before" or "after"); "viewchange": zoom or place changed; "input": the divider was moved.
 * Slots              "start", "end": more buttons in the bar, also in full screen.
 * Style              size as of any block; --stage, --accent: colours.
 *
 * Pointer and touch  drag: moves the divider, or the picture where it is larger than the frame; the knob always moves the
 *                    divider; a click puts the divider there; wheel and pinch enlarge; double click: 100 % and back.
 * Keys               arrows (on the divider) move it; + and - enlarge, 0 shows all, 1 is 100 %, Shift+arrows move the
 *                    picture, O held shows the original, F is full screen.
 */
import { Gestures } from "./gestures.js";
import { MARKUP, STYLE } from "./before-after-parts.js";

const STEP = Math.SQRT2;
const MOST = 16; // screen pixels for a pixel of the result
const UNSMOOTHED = 2; // from here on pixels are squares
const ROOM = 340; // CSS pixels for two labels side by side
const PAN = 0.1; // share of the frame that an arrow key moves
const SHEET = new CSSStyleSheet();
SHEET.replaceSync(STYLE);
const ADDRESSES = ["before", "after", "before-full", "after-full"];
const TEXTS = ["width", "height", "fit", "before-label", "after-label", "alt"];
const camelCase = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

class BeforeAfter extends HTMLElement {
  static observedAttributes = [...ADDRESSES, ...TEXTS];

  #parts = {};
  #view = { scale: 1, x: 0, y: 0 }; // CSS pixels for a pixel of the result; its upper left corner in the frame
  #size = { width: 0, height: 0 };
  #fitted = true;
  #value = 50;
  #original = false;
  #generation = 0; // of the pair of pictures
  #scheduled = false;
  #shown = ""; // the addresses that #size belongs to

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [SHEET];
    root.innerHTML = MARKUP;
    for (const part of root.querySelectorAll("[id]")) this.#parts[part.id] = part;
    this.#listen();
  }

  connectedCallback() {
    this.#parts.full.hidden = !document.fullscreenEnabled;
  }

  attributeChangedCallback(name, old, now) {
    if (old === now || this.#scheduled) return;
    this.#scheduled = true; // attributes are set one after the other: one update for all of them
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#update();
    });
  }

  get value() { return this.#value; }
  set value(percent) {
    this.#value = Math.min(Math.max(Number(percent) || 0, 0), 100);
    this.#render();
  }

  get original() { return this.#original; }
  set original(alone) {
    this.#original = Boolean(alone);
    this.#parts.hold.setAttribute("aria-pressed", this.#original);
    this.#render();
  }

  get fitted() { return this.#fitted; }
  get zoom() { return this.#view.scale * devicePixelRatio; }
  set zoom(wanted) { this.zoomBy(wanted / this.zoom); }

  /** Multiply the magnification; the place (x, y) of the frame, by default its middle, stays where it is. */
  zoomBy(factor, x = this.#frame.width / 2, y = this.#frame.height / 2) {
    if (!this.#size.width) return;
    const least = this.#fitting();
    const most = Math.max(MOST / devicePixelRatio, least);
    const before = this.#view;
    const scale = Math.min(Math.max(before.scale * factor, least), most);
    const grown = scale / before.scale;
    this.#view = { scale, x: x - (x - before.x) * grown, y: y - (y - before.y) * grown };
    this.#fitted = scale <= least * 1.001;
    this.#moved();
  }

  showAll() {
    this.#fitted = true;
    this.#moved();
  }

  toggleFullScreen() { return document.fullscreenElement ? document.exitFullscreen() : this.requestFullscreen(); }

  get #frame() {
    const { clientWidth: width, clientHeight: height } = this.#parts.stage;
    return { width, height };
  }

  /** The scale at which the whole result is in the frame; a small one is not enlarged. */
  #fitting() {
    const { width, height } = this.#frame;
    return Math.min(width / this.#size.width, height / this.#size.height, 1) || 1;
  }

  /** The part of the frame that the picture covers: left, right, top, bottom. */
  #visible() {
    const [{ scale, x, y }, frame] = [this.#view, this.#frame];
    const [right, bottom] = [x + this.#size.width * scale, y + this.#size.height * scale];
    return [Math.max(x, 0), Math.min(right, frame.width), Math.max(y, 0), Math.min(bottom, frame.height)];
  }

  async #update() {
    const { before, after } = this;
    const pair = `${before}\n${after}`;
    this.#texts();
    if (pair === this.#shown) return this.#measure();
    this.#shown = pair;
    const generation = ++this.#generation;
    this.#parts.root.classList.add("loading");
    this.#parts.failure.hidden = true;
    const pictures = await Promise.all([this.#load("before", before), this.#load("after", after)]);
    if (generation !== this.#generation) return;
    ["before", "after"].forEach((which, k) => this.#put(which, pictures[k]));
    this.#parts.root.classList.remove("loading");
    this.#fitted = true;
    this.#measure();
    if (pictures.some(Boolean)) this.dispatchEvent(new CustomEvent("ready"));
  }

  /** A loaded picture, or null where there is none or it cannot be loaded. */
  async #load(which, address) {
    if (!address) return null;
    const generation = this.#generation;
    const picture = new Image();
    picture.draggable = false;
    const loaded = new Promise((resolve) => {
      picture.onload = () => resolve(true);
      picture.onerror = () => resolve(false);
    });
    picture.src = address;
    if (await loaded) return picture;
    if (generation === this.#generation) {
      this.#parts.failure.textContent = `The picture “${this.#label(which)}” cannot be shown here.`;
      this.#parts.failure.hidden = false;
      this.dispatchEvent(new CustomEvent("failed", { detail: { which } }));
    }
    return null;
  }

  #put(which, picture) {
    this.#parts[which].replaceChildren(...(picture ? [picture] : []));
    if (picture) picture.alt = [this.#label(which), this.alt].filter(Boolean).join(": ");
  }

  #picture(which) { return this.#parts[which].firstElementChild; }

  #label(which) { return this[`${which}Label`] ?? (which === "before" ? "Before" : "After"); }

  #texts() {
    for (const which of ["before", "after"]) {
      this.#parts[`${which}Label`].textContent = this.#label(which);
      if (this.#picture(which)) this.#put(which, this.#picture(which));
    }
    this.#parts.before.classList.toggle("cover", this.fit === "cover");
    this.#parts.divider.setAttribute("aria-label", `Divider between ${this.#label("before")} and ${this.#label("after")}`);
  }

  #measure() {
    const { naturalWidth = 0, naturalHeight = 0 } = this.#picture("after") ?? this.#picture("before") ?? {};
    this.#size = { width: Number(this.width) || naturalWidth, height: Number(this.height) || naturalHeight };
    this.#moved();
  }

  /** Keep the picture in the frame, draw it, tell it. */
  #moved() {
    const frame = this.#frame;
    if (!this.#size.width || !frame.width) return;
    if (this.#fitted) this.#view.scale = this.#fitting();
    const { scale } = this.#view;
    for (const [place, extent] of [["x", "width"], ["y", "height"]]) {
      const free = frame[extent] - this.#size[extent] * scale;
      this.#view[place] = free >= 0 ? free / 2 : Math.min(Math.max(this.#view[place], free), 0);
    }
    this.#render();
    for (const which of ["before", "after"]) this.#sharpen(which);
    this.dispatchEvent(new CustomEvent("viewchange"));
  }

  #render() {
    const { before, after, divider, handle, factor, root, board } = this.#parts;
    const { scale, x, y } = this.#view;
    const [left, right, top, bottom] = this.#visible();
    const split = after.firstElementChild ? left + (this.#value / 100) * (right - left) : this.#frame.width;
    const size = { width: `${this.#size.width}px`, height: `${this.#size.height}px` };
    const placed = { ...size, transform: `translate(${x}px, ${y}px) scale(${scale})` };
    for (const each of [before.firstElementChild, after.firstElementChild, board]) Object.assign(each?.style ?? {}, placed);
    board.style.setProperty("--square", `${8 / scale}px`);
    before.style.clipPath = this.#original ? "none" : `inset(0 calc(100% - ${split}px) 0 0)`;
    after.style.clipPath = `inset(0 0 0 ${split}px)`;
    Object.assign(handle.style, { transform: `translate(${split}px, ${top}px)`, height: `${bottom - top}px` });
    const edge = right - left < ROOM ? 0 : left; // the labels' place: on the picture, or at the frame where it is small
    Object.assign(this.#parts.beforeLabel.style, { left: `${edge}px`, top: `${edge && top}px` });
    Object.assign(this.#parts.afterLabel.style, { right: `${edge && this.#frame.width - right}px`, top: `${edge && top}px` });
    divider.hidden = !after.firstElementChild;
    root.classList.toggle("alone", divider.hidden);
    root.classList.toggle("original", this.#original);
    root.classList.toggle("enlarged", !this.#fitted);
    root.classList.toggle("pixels", !this.#fitted && this.zoom >= UNSMOOTHED - 0.001);
    this.#parts.beforeLabel.classList.toggle("covered", !this.#original && split - left < 72);
    this.#parts.afterLabel.classList.toggle("covered", this.#original || right - split < 72);
    const share = Math.round(this.#value);
    divider.value = share;
    divider.setAttribute("aria-valuetext", `${share} % ${this.#label("before")}, ${100 - share} % ${this.#label("after")}`);
    factor.textContent = `${Math.round(this.zoom * 100)} %`;
    this.#parts.smaller.ariaDisabled = this.#fitted; // not `disabled`, which takes the focus away
    this.#parts.larger.ariaDisabled = this.zoom >= MOST - 0.001;
    this.#parts.all.setAttribute("aria-pressed", this.#fitted);
    this.#parts.actual.setAttribute("aria-pressed", Math.abs(this.zoom - 1) < 0.005);
  }

  /** Fetch the larger version of a picture as soon as the one there has too few pixels for the screen. */
  async #sharpen(which) {
    const address = this[`${which}Full`];
    const there = this.#picture(which);
    const needed = this.#size.width * this.zoom;
    if (!address || !there || there.dataset.full || needed <= there.naturalWidth * 1.1) return;
    there.dataset.full = "asked";
    const generation = this.#generation;
    this.#parts.busy.hidden = false;
    const picture = new Image();
    picture.draggable = false;
    picture.dataset.full = "here";
    picture.src = address;
    await picture.decode().catch(() => {}); // the reduced picture stays
    this.#parts.busy.hidden = true;
    if (generation !== this.#generation || !picture.naturalWidth) return;
    this.#put(which, picture);
    this.#render();
  }

  #divide(x) {
    const [left, right] = this.#visible();
    this.value = (100 * (x - left)) / Math.max(right - left, 1);
    this.dispatchEvent(new Event("input"));
  }

  #listen() {
    const { stage, divider, grip, hold, smaller, larger, all, actual, full } = this.#parts;
    let earlier = this.#value; // a double click must not leave the divider where it was clicked
    new Gestures(stage, {
      zoom: (factor, x, y) => this.zoomBy(factor, x, y),
      drag: (dx, dy, x, from) => {
        if (this.#fitted || from === grip) return this.#divide(x);
        this.#view.x += dx;
        this.#view.y += dy;
        this.#moved();
      },
      click: (x, count) => {
        if (count === 1) earlier = this.#value;
        if (!this.#original && this.#picture("after")) this.#divide(x);
      },
      doubleClick: (x, y) => {
        this.value = earlier;
        if (this.#fitted) this.zoomBy(Math.max(1 / this.zoom, 2), x, y);
        else this.showAll();
      },
      wants: (event) => event.ctrlKey || !this.#fitted || !this.hasAttribute("inline"),
    });
    divider.addEventListener("input", () => {
      this.value = divider.value;
      this.dispatchEvent(new Event("input"));
    });
    smaller.addEventListener("click", () => this.zoomBy(1 / STEP));
    larger.addEventListener("click", () => this.zoomBy(STEP));
    all.addEventListener("click", () => this.showAll());
    actual.addEventListener("click", () => (this.zoom = 1));
    full.addEventListener("click", () => this.toggleFullScreen());
    hold.addEventListener("pointerdown", () => (this.original = true));
    for (const name of ["pointerup", "pointercancel", "pointerleave", "blur"])
      hold.addEventListener(name, () => (this.original = false));
    this.addEventListener("keydown", (event) => this.#key(event));
    this.addEventListener("keyup", (event) => {
      if (this.#original && [" ", "Enter", "o", "O"].includes(event.key)) this.original = false;
    });
    new ResizeObserver(() => this.#moved()).observe(stage);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { width, height } = this.#frame;
    const onHold = this.shadowRoot.activeElement === this.#parts.hold;
    const pan = (x, y) => {
      this.#view.x += x * PAN * width;
      this.#view.y += y * PAN * height;
      this.#moved();
    };
    const shifted = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const show = () => { if (!event.repeat) this.original = true; };
    const keys = {
      "+": () => this.zoomBy(STEP), "=": () => this.zoomBy(STEP), "-": () => this.zoomBy(1 / STEP), 0: () => this.showAll(),
      1: () => (this.zoom = 1), o: show, f: () => { if (document.fullscreenEnabled) this.toggleFullScreen(); },
      ...(onHold ? { " ": show, enter: show } : {}),
    };
    if (event.shiftKey && shifted[event.key]) pan(...shifted[event.key]);
    else if (keys[event.key.toLowerCase()]) keys[event.key.toLowerCase()]();
    else return;
    event.preventDefault();
  }
}

for (const name of BeforeAfter.observedAttributes)
  Object.defineProperty(BeforeAfter.prototype, camelCase(name), {
    get() { return this.getAttribute(name); },
    set(text) { if (text == null) this.removeAttribute(name); else this.setAttribute(name, text); },
  });

if (!customElements.get("before-after")) customElements.define("before-after", BeforeAfter);
export { BeforeAfter };
