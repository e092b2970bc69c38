/** Where photographs come from: dropped files and folders, the clipboard, the dialogs for files and folders. */
import { byId } from "./dom.js";

const ALSO = [".jpeg", ".jfif", ".jpe", ".tif", ".heif"]; // suffixes besides the names of the formats

export class Intake {
  #suffixes = null;
  #depth = 0; // of elements that something is dragged over

  /** @param take called with an array of files */
  constructor(take) {
    this.take = take;
    for (const input of [byId("files"), byId("folder")])
      input.addEventListener("change", () => {
        take(input === byId("folder") ? this.#pictures([...input.files]) : [...input.files]);
        input.value = ""; // the same files can be chosen again
      });
    for (const button of document.querySelectorAll("[data-choose]"))
      button.addEventListener("click", () => byId(button.dataset.choose).click());
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) event.preventDefault();
      if (files.length) take(files);
    });
    this.#listenForDrops();
  }

  /** Let the dialogs offer what the server reads. Phones convert what is not named here. */
  offer(formats) {
    const heif = formats.some(({ name }) => name === "heic");
    const others = ALSO.filter((suffix) => suffix !== ".heif" || heif);
    this.#suffixes = [...formats.map(({ suffix }) => suffix), ...others];
    byId("files").accept = [...formats.map((format) => format.media_type), ...this.#suffixes].join(",");
  }

  #listenForDrops() {
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    const show = (over) => { byId("drop").hidden = !over; };
    addEventListener("dragenter", (event) => {
      if (!carriesFiles(event) || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.#depth += 1;
      show(true);
    });
    addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    });
    addEventListener("dragleave", (event) => {
      if (carriesFiles(event) && (this.#depth = Math.max(0, this.#depth - 1)) === 0) show(false);
    });
    addEventListener("drop", async (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.#depth = 0;
      show(false);
      if (document.querySelector("dialog[open]")) return;
      // The items are gone after the first await: ask for all entries now.
      const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
      const found = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
      for (const { entry, file } of found) {
        if (entry?.isDirectory) this.take(this.#pictures(await contents(entry)));
        else if (file) this.take([file]);
      }
    });
  }

  /** Of a folder, only what looks like a picture; what is chosen by itself is always tried. */
  #pictures(files) {
    const isPicture = ({ name, type }) =>
      this.#suffixes ? this.#suffixes.some((suffix) => name.toLowerCase().endsWith(suffix)) : type.startsWith("image/");
    return files.filter((file) => !file.name.startsWith(".") && isPicture(file));
  }
}

/** All files below a folder, in the order of their names. */
async function contents(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // 100 at a time
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  const files = [];
  for (const entry of entries)
    files.push(...(entry.isDirectory ? await contents(entry) : [await new Promise((resolve, reject) => entry.file(resolve, reject))]));
  return files;
}
