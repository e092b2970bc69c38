/** Pictures of the image that is open, decoded when they are first shown. */
const decoded = new Map();

function keysOf(image) {
  const systems = found.systems.map((system, k) => [String(k), system.name]);
  const keys = [["lr", "input, pixels"], ["bicubic", "input, bicubic"], ...systems, ["gt", "truth"]];
  return keys.filter(([key]) => byId(`picture-${image}-${key}`));
}

async function pictureOf(image, key) {
  const id = `picture-${image}-${key}`;
  if (!decoded.has(id)) {
    const picture = new Image();
    picture.src = byId(id).textContent;
    decoded.set(id, picture.decode().then(() => picture));
  }
  return decoded.get(id);
}

/** Paint a picture at the size of the results; the input's own pixels stay visible. */
async function paint(canvas, image, key) {
  const picture = await pictureOf(image, key);
  const like = byId(`picture-${image}-gt`) ? "gt" : byId(`picture-${image}-0`) ? "0" : key;
  const size = key === "lr" ? await pictureOf(image, like) : picture;
  canvas.width = size.naturalWidth;
  canvas.height = size.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

const pixelsOf = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);

function subtract(canvas, truth, gain) {
  const pixels = pixelsOf(canvas);
  for (let i = 0; i < pixels.data.length; i++)
    if (i % 4 !== 3) pixels.data[i] = gain * Math.abs(pixels.data[i] - truth.data[i]);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

async function drawPanels() {
  const image = state.image;
  const keys = keysOf(image);
  const truth = state.mode === "difference" && keys.some(([key]) => key === "gt") ? make("canvas") : null;
  if (truth) await paint(truth, image, "gt");
  const figures = keys.filter(([key]) => !(truth && key === "gt")).map(([key, name]) => panel(image, key, name));
  await Promise.all(
    figures.map(async ({ canvas, key }) => {
      await paint(canvas, image, key);
      if (truth) subtract(canvas, pixelsOf(truth), Number(byId("gain").value));
      if (state.mode === "spectrum") drawSpectrum(canvas, pixelsOf(canvas));
    }),
  );
  if (image === state.image) byId("panels").replaceChildren(...figures.map(({ figure }) => figure));
}

function panel(image, key, name) {
  const canvas = make("canvas", { role: "img", "aria-label": name });
  const lens = make("canvas", { className: "lens", width: 128, height: 128, hidden: true });
  const frame = make("div", { className: "frame" }, canvas, lens);
  frame.addEventListener("pointermove", (event) => moveLenses(event, frame));
  frame.addEventListener("pointerdown", (event) => moveLenses(event, frame));
  frame.addEventListener("pointerleave", hideLenses);
  const caption = make("figcaption", {}, name);
  const system = found.systems[key];
  if (system) {
    const parts = metricNames
      .filter((n) => system.scores[n]?.values.length)
      .map((n) => `${data.metrics[n].label} ${show(n, toNumber(system.scores[n].values[image]))}`);
    caption.append(make("span", { className: "values", textContent: parts.join("  ") }));
    caption.style.color = color(Number(key));
  }
  return { figure: make("figure", { "data-key": key }, frame, caption), canvas, key };
}

/** All lenses look at the same place. */
function moveLenses(event, frame) {
  const box = frame.getBoundingClientRect();
  const x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  const y = Math.min(Math.max((event.clientY - box.top) / box.height, 0), 1);
  const zoom = Number(byId("zoom").value);
  for (const each of byId("panels").querySelectorAll(".frame")) {
    const [canvas, lens] = each.children;
    lens.hidden = false;
    lens.style.left = `${100 * x}%`;
    lens.style.top = `${100 * y}%`;
    const seen = lens.width / zoom;
    const context = lens.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, lens.width, lens.height);
    const left = Math.floor(x * canvas.width) + 0.5 - seen / 2;
    const top = Math.floor(y * canvas.height) + 0.5 - seen / 2;
    context.drawImage(canvas, left, top, seen, seen, 0, 0, lens.width, lens.height);
  }
}

function hideLenses() {
  for (const lens of document.querySelectorAll(".lens")) lens.hidden = true;
}
