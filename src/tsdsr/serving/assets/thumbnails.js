/** Small pictures and sizes of files on this device, one after the other: a large photograph takes much memory. */

const EDGE = 144; // pixels: twice what the list shows
let last = Promise.resolve();

/** Resolves to {url, width, height}, or null if the browser cannot show the file. */
export function thumbnail(file) {
  const made = last.then(() => make(file)).catch(() => null);
  last = made;
  return made;
}

async function make(file) {
  const picture = new Image();
  const loaded = new Promise((resolve, reject) => Object.assign(picture, { onload: resolve, onerror: reject }));
  picture.src = URL.createObjectURL(file);
  try {
    await loaded;
    const { naturalWidth: width, naturalHeight: height } = picture;
    const scale = Math.min(1, EDGE / Math.min(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.min(Math.round(width * scale), 3 * EDGE));
    canvas.height = Math.max(1, Math.min(Math.round(height * scale), 3 * EDGE));
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    const small = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
    return { url: URL.createObjectURL(small), width, height };
  } finally {
    URL.revokeObjectURL(picture.src);
  }
}
