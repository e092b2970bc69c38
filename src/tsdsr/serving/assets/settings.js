/** The form of settings, remembered on this device, and what it means for a request and for a picture's size. */
import { byId, element, setText } from "./dom.js";

const KEY = "tsdsr-settings";
const NARROW = matchMedia("(max-width: 56rem)"); // as in page.css
const LARGEST = 8; // times a side grows

const DETAIL = [
  [0.15, "Stays as close to your photograph as the model can."],
  [0.75, "Adds some texture that is plausible, but not in your photograph."],
  [1, "Adds texture that is plausible, but not in your photograph."],
];

export class Settings extends EventTarget {
  #form = byId("settings");
  #formats = [];

  constructor() {
    super();
    this.#restore();
    this.#form.addEventListener("input", () => this.#changed());
    byId("fold").addEventListener("click", () => this.#unfold(byId("fold").ariaExpanded !== "true"));
    NARROW.addEventListener("change", () => this.fold());
    this.fold();
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    for (const button of this.#form.querySelectorAll("[name=times]"))
      button.addEventListener("change", () => { byId("scale").value = button.value; this.#changed(); });
    byId("scale").addEventListener("input", () => this.#showScale());
    byId("scale").addEventListener("change", () => {
      byId("scale").value = this.scale;
      this.#changed();
    });
    this.#changed();
  }

  /** Make room for the list on narrow screens. */
  fold() { this.#unfold(!NARROW.matches); }

  /** On narrow screens the heading opens and closes the form; on wide ones it is open. */
  #unfold(open) {
    byId("fold").disabled = !NARROW.matches;
    byId("fold").setAttribute("aria-expanded", open);
  }

  /** Fill the list of formats with those that the server can write. */
  offer(formats) {
    this.#formats = formats;
    const wanted = this.#saved().format ?? "";
    byId("format").replaceChildren(
      element("option", { value: "", textContent: "As the photograph" }),
      ...formats.map(({ name, label }) => element("option", { value: name, textContent: label ?? name.toUpperCase() })),
    );
    byId("format").value = formats.some(({ name }) => name === wanted) ? wanted : "";
    this.#changed();
  }

  get scale() {
    const number = Number(byId("scale").value.replace(",", "."));
    return Number.isFinite(number) && number > 0 ? Math.min(Math.max(number, 1), LARGEST) : 4;
  }

  get #sized() { return this.#form.elements.by.value === "size"; }
  get #target() { return { width: Number(byId("width").value), height: Number(byId("height").value) }; }

  /** Whether everything that is needed is filled in. */
  get complete() { return !this.#sized || (this.#target.width > 0 && this.#target.height > 0); }

  /** Options of a request. */
  options() {
    const form = this.#form.elements;
    const chosen = {};
    if (this.#sized) Object.assign(chosen, this.#target, { fit: form.fit.value });
    else chosen.scale = this.scale;
    chosen.detail = Number(form.detail.value) / 100;
    chosen.color_fix = form.color_fix.value;
    if (form.format.value) chosen.format = form.format.value;
    if (form.lossless.checked && !byId("lossless-row").hidden) chosen.lossless = true;
    else if (form.own_quality.checked && !byId("quality-row").hidden) chosen.quality = Number(form.quality.value);
    if (form.icc.value !== "keep") chosen.icc = form.icc.value;
    return chosen;
  }

  /** Size of the result of a picture, or null if it is not known yet. */
  result({ width, height }) {
    if (!width || !this.complete) return null;
    const grown = (factor) => ({ width: Math.round(width * factor), height: Math.round(height * factor) });
    if (!this.#sized) return grown(this.scale);
    const target = this.#target;
    if (this.#form.elements.fit.value !== "contain") return target;
    return grown(Math.min(target.width / width, target.height / height));
  }

  /** All of it in few words, for narrow screens. */
  #summary(format) {
    const { width, height } = this.#target;
    const size = this.#sized ? `${width || "?"} × ${height || "?"}` : `×${this.scale}`;
    const detail = Number(this.#form.elements.detail.value);
    const words = detail === 0 ? "faithful" : detail === 100 ? "detailed" : `detail ${detail} %`;
    return [size, words, format?.label].filter(Boolean).join(", ");
  }

  #showScale() {
    for (const button of this.#form.querySelectorAll("[name=times]"))
      button.checked = Number(button.value) === this.scale;
  }

  #changed() {
    const form = this.#form.elements;
    const format = this.#formats.find(({ name }) => name === form.format.value);
    byId("by-scale").hidden = this.#sized;
    byId("by-size").hidden = !this.#sized;
    byId("lossless-row").hidden = !format?.lossless;
    byId("quality-row").hidden = Boolean(format && !format.quality) || (form.lossless.checked && !byId("lossless-row").hidden);
    form.quality.disabled = !form.own_quality.checked;
    setText(byId("quality-value"), form.own_quality.checked ? form.quality.value : "automatic");
    const share = Number(form.detail.value) / 100;
    const [, words] = DETAIL.find(([most]) => share <= most);
    setText(byId("detail-words"), words);
    form.detail.setAttribute("aria-valuetext", `${form.detail.value} of 100. ${words}`);
    this.#showScale();
    setText(byId("settings-words"), this.#summary(format));
    this.#save();
    this.dispatchEvent(new Event("change"));
  }

  #saved() {
    try {
      return JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
      return {}; // no storage in a private window, or another version's
    }
  }

  #save() {
    const kept = {};
    for (const field of this.#form.elements) {
      if (!field.name || field.name === "times" || (field.type === "radio" && !field.checked)) continue;
      kept[field.name] = field.type === "checkbox" ? field.checked : field.value;
    }
    if (!this.#formats.length) kept.format = this.#saved().format ?? ""; // its list is not there yet
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch { /* nothing is remembered */ }
  }

  #restore() {
    for (const [name, value] of Object.entries(this.#saved())) {
      const field = this.#form.elements[name];
      if (!field) continue;
      if (field.type === "checkbox") field.checked = value === true;
      else field.value = value;
    }
  }
}
