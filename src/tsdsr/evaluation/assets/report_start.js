function start() {
  drawScores(null);
  drawCosts();
  drawNotes();
  const metrics = withValues();
  state.metric = metrics[0] ?? null;
  fill(byId("metric"), metrics.map((name) => [name, data.metrics[name].label + arrow(name)]));
  fill(byId("system"), found.systems.map((system, k) => [k, system.name]));
  fill(byId("image"), data.embedded.map((i) => [i, found.images[i]]));
  byId("viewer").hidden = state.image === null;
  if (state.image !== null) {
    const keys = keysOf(state.image);
    fill(byId("left"), keys, keys[0]?.[0]);
    fill(byId("right"), keys, keys.at(-1)?.[0]);
    if (!keys.some(([key]) => key === "gt")) byId("mode").querySelector("[value=difference]").remove();
  }
  listen();
  drawExtremes();
  drawBars();
  if (state.image !== null) openImage(state.image);
}

function listen() {
  const on = (id, event, action) => byId(id).addEventListener(event, action);
  on("previous", "click", () => step(-1));
  on("next", "click", () => step(1));
  on("image", "change", () => openImage(Number(byId("image").value)));
  on("mode", "change", () => {
    state.mode = byId("mode").value;
    drawViewer();
  });
  on("gain", "input", drawViewer);
  on("left", "change", drawViewer);
  on("right", "change", drawViewer);
  on("split", "input", moveDivider);
  on("order", "change", drawBars);
  on("metric", "change", () => {
    state.metric = byId("metric").value;
    drawExtremes();
    drawBars();
  });
  on("system", "change", () => {
    state.system = Number(byId("system").value);
    drawExtremes();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("select, input")) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
}

start();
