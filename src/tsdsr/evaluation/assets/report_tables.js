/** Measured rows, then published ones; a click on a heading sorts within these groups' union. */
function tableRows() {
  const measured = found.systems.map((system) => ({
    label: system.name,
    value: (name) => toNumber(system.scores[name]?.mean),
    interval: (name) => system.scores[name]?.interval,
  }));
  const published = data.published.map((row) => ({
    label: row.label,
    published: true,
    value: (name) => toNumber(row.values[name]),
    interval: () => null,
  }));
  return [...measured, ...published];
}

/** What ranks first and second, compared as printed, so that equal looks are marked alike. */
function ranks(rows, name) {
  if (data.metrics[name].higher === null) return [];
  const printed = new Map();
  for (const row of rows) {
    const value = row.value(name);
    if (value !== null && !Number.isNaN(value)) printed.set(show(name, value), merit(name, value));
  }
  return [...printed].sort((a, b) => b[1] - a[1]).slice(0, 2).map(([text]) => text);
}

function drawScores(sorted) {
  const rows = tableRows();
  const marksOf = (group) => Object.fromEntries(metricNames.map((name) => [name, ranks(group, name)]));
  const marks = [false, true].map((kind) => marksOf(data.together ? rows : rows.filter((row) => Boolean(row.published) === kind)));
  if (sorted) rows.sort((a, b) => merit(sorted, b.value(sorted)) - merit(sorted, a.value(sorted)) || 0);
  const headings = metricNames.map((name) => {
    const button = make("button", { type: "button", textContent: data.metrics[name].label + arrow(name) });
    button.addEventListener("click", () => drawScores(sorted === name ? null : name));
    const cell = make("th", { scope: "col" }, button);
    if (sorted === name) cell.setAttribute("aria-sort", data.metrics[name].higher ? "descending" : "ascending");
    return cell;
  });
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "System" }), ...headings));
  const body = make("tbody", {}, ...rows.map((row) => scoreRow(row, marks[row.published ? 1 : 0])));
  byId("scores").replaceChildren(head, body);
}

function scoreRow(row, marks) {
  const cells = metricNames.map((name) => {
    const text = show(name, row.value(name));
    const rank = marks[name].indexOf(text);
    const cell = make("td", { className: rank === 0 ? "best" : rank === 1 ? "second" : "" }, make("span", { textContent: text }));
    const interval = row.interval(name);
    if (interval) cell.append(make("small", { textContent: interval.map((v) => show(name, toNumber(v))).join(" – ") }));
    return cell;
  });
  const label = make("td", { textContent: row.label });
  if (row.published) label.append(make("small", { textContent: "published" }));
  return make("tr", { className: row.published ? "published" : "" }, label, ...cells);
}

const COSTS = [
  ["s / image", (c) => c.seconds.toPrecision(3)],
  ["network alone", (c) => (c.seconds_network === null ? "n/a" : c.seconds_network.toPrecision(3))],
  ["peak memory", (c) => (c.peak_memory === null ? "n/a" : `${Math.round(c.peak_memory / 2 ** 20)} MiB`)],
  ["parameters", (c) => (c.parameters ? `${(c.parameters / 1e6).toFixed(2)} M` : "0")],
  ["runs", (c) => String(c.runs)],
  ["input", (c) => c.input_size.join("×")],
  ["on", (c) => `${c.device}, ${c.dtype}`],
];

function drawCosts() {
  const systems = found.systems.filter((system) => system.cost);
  byId("costs").hidden = systems.length === 0;
  const head = ["System", ...COSTS.map(([name]) => name)].map((text) => make("th", { scope: "col", textContent: text }));
  const rows = systems.map((system) =>
    make("tr", {}, ...[system.name, ...COSTS.map(([, read]) => read(system.cost))].map((text) => make("td", { textContent: text }))),
  );
  byId("costs").replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}

function drawNotes() {
  const reasons = new Map();
  for (const system of found.systems)
    for (const [name, scores] of Object.entries(system.scores)) if (scores.unavailable) reasons.set(name, scores.unavailable);
  const label = (name) => data.metrics[name]?.label ?? name;
  const settings = Object.entries(found.settings).map(([name, value]) => `${name} ${value}`).join(", ");
  byId("summary").textContent = `${found.images.length} images, ${found.systems.length} systems. Intervals: 95 %, bootstrap over images.`;
  byId("notes").replaceChildren(
    ...data.cautions.map((text) => make("li", { className: "missing", textContent: text })),
    ...[...reasons].map(([name, why]) => make("li", { className: "missing", textContent: `${label(name)} unavailable: ${why}` })),
    ...metricNames.filter((n) => !reasons.has(n)).map((n) => make("li", { textContent: `${label(n)}: ${found.variants[n]}` })),
    ...(settings ? [make("li", { textContent: settings })] : []),
  );
}
