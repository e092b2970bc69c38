/** Bars of every image, and the strips of worst and best. Both follow the chosen metric. */
function withValues() {
  return metricNames.filter((name) => found.systems.some((_, k) => valuesOf(k, name).length));
}

function drawBars() {
  const name = state.metric;
  byId("bars").replaceChildren();
  if (!name) return;
  const columns = found.systems.map((_, k) => valuesOf(k, name));
  const finite = columns.flat().filter(Number.isFinite);
  const low = Math.min(0, ...finite);
  const span = Math.max(...finite, 0) - low || 1;
  const order = found.images.map((_, i) => i);
  const mean = (i) => columns.reduce((sum, values) => sum + merit(name, values[i] ?? null), 0);
  if (byId("order").value === "value") order.sort((a, b) => mean(a) - mean(b) || 0);
  byId("bars").append(...order.map((i) => make("li", {}, barOf(i, name, columns, (v) => ((v - low) / span) * 100))));
  markCurrent();
}

function barOf(image, name, columns, width) {
  const lines = columns.map((values, k) => {
    const value = values[image] ?? null;
    const bar = make("i", { title: found.systems[k].name });
    bar.style.background = color(k);
    bar.style.width = `${Number.isFinite(value) ? width(value) : value === Infinity ? 100 : 0}%`;
    return make("div", { className: "line" }, bar, make("span", { textContent: show(name, value) }));
  });
  const button = make("button", { type: "button", className: "bar" }, make("span", { textContent: found.images[image] }), make("div", {}, ...lines));
  button.dataset.image = image;
  button.addEventListener("click", () => openImage(image, true));
  return button;
}

function markCurrent() {
  for (const bar of document.querySelectorAll(".bar")) {
    if (Number(bar.dataset.image) === state.image) bar.setAttribute("aria-current", "true");
    else bar.removeAttribute("aria-current");
  }
}

function drawExtremes(count = 8) {
  const values = state.metric ? valuesOf(state.system, state.metric) : [];
  const order = values.map((_, i) => i).sort((a, b) => merit(state.metric, values[a]) - merit(state.metric, values[b]) || 0);
  const thumb = (i) => {
    const source = byId(`thumbnail-${i}-${state.system}`);
    const picture = source ? make("img", { src: source.textContent, alt: "" }) : make("span", { className: "blank" });
    const button = make(
      "button",
      { type: "button", className: "thumb" },
      picture,
      make("b", { textContent: show(state.metric, values[i]) }),
      make("span", { textContent: found.images[i] }),
    );
    button.addEventListener("click", () => openImage(i, true));
    return button;
  };
  byId("worst").replaceChildren(...order.slice(0, count).map(thumb));
  byId("best").replaceChildren(...order.slice(-count).reverse().map(thumb));
}
