async function drawSlider() {
  await Promise.all([paint(byId("above"), state.image, byId("left").value), paint(byId("below"), state.image, byId("right").value)]);
  moveDivider();
}

function moveDivider() {
  const share = Number(byId("split").value);
  byId("above").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  byId("divider").style.left = `${share}%`;
}

function drawViewer() {
  if (state.image === null) return Promise.resolve();
  const slider = state.mode === "slider";
  byId("panels").hidden = slider;
  byId("slider").hidden = !slider;
  for (const [name, shown] of [["slider", slider], ["difference", state.mode === "difference"], ["lens", !slider]])
    for (const control of document.querySelectorAll(`.for-${name}`)) control.hidden = !shown;
  return slider ? drawSlider() : drawPanels();
}

/** Show an image if its pictures are in the page. */
async function openImage(image, scroll = false) {
  if (!data.embedded.includes(image)) {
    byId("embedded").textContent = `${found.images[image]}: this page holds its numbers only.`;
    return;
  }
  decoded.clear();
  state.image = image;
  byId("image").value = image;
  noteEmbedded();
  markCurrent();
  if (scroll) byId("viewer").scrollIntoView({ block: "start" });
  await drawViewer();
  byId("viewer").dataset.shown = image;
}

function step(by) {
  const at = data.embedded.indexOf(state.image);
  const next = data.embedded[at + by];
  if (next !== undefined) openImage(next);
}

function noteEmbedded() {
  const [some, all] = [data.embedded.length, found.images.length];
  const part = some === all ? "" : `Pictures of ${some} of ${all} images are in this page: the worst, the best and some between. `;
  byId("embedded").textContent = part + (data.lossless ? "" : "Pictures are lossy: difference and spectrum are approximate.");
}
