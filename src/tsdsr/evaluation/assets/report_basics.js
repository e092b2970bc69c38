"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const found = data.evaluation;
const metricNames = Object.keys(found.variants);
const byId = (id) => document.getElementById(id);
const state = { image: data.embedded.length ? data.embedded[0] : null, mode: "picture", metric: null, system: 0 };

/** JSON has no infinities; they come as text. */
function toNumber(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "number") return value;
  return { inf: Infinity, "-inf": -Infinity }[value] ?? NaN;
}

/** An element with properties and children; strings become text, never markup. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function show(name, value) {
  if (value === null) return "n/a";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "∞" : "−∞";
  return value.toFixed(data.metrics[name].digits);
}

function arrow(name) {
  const higher = data.metrics[name].higher;
  return higher === null ? "" : higher ? " ↑" : " ↓";
}

/** Larger is better, whatever the metric's direction; unknown values come last. */
function merit(name, value) {
  if (value === null || Number.isNaN(value)) return -Infinity;
  return data.metrics[name].higher === false ? -value : value;
}

function valuesOf(system, name) {
  const scores = found.systems[system].scores[name];
  return scores ? scores.values.map(toNumber) : [];
}

function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value, textContent: text })));
  if (chosen !== undefined) select.value = chosen;
}

const color = (system) => `var(--s${system % 6})`;
