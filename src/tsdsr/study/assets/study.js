"use strict";
const byId = (id) => document.getElementById(id);
const NAMES = ["Low quality", "Original"];
const session = { total: 0, trials: [] };
const loaded = new Map(); // address of a trial's input → promise of its pictures
let aspect = 1; // height by width of the pictures shown
let shown = null; // the trial whose pictures are on the page; null while others are awaited
let chosen = null; // position, from 0
let busy = false;

class Refused extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const response = await fetch(path, { credentials: "same-origin", ...options });
  if (!response.ok) throw new Refused(response.status);
  return response;
}

function show(name) {
  for (const id of ["intro", "trial", "done"]) byId(id).hidden = id !== name;
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = text === "";
}

/** All pictures of a trial, decoded: the input, the original, the candidates. */
function load(trial) {
  if (!loaded.has(trial.input)) {
    const addresses = [trial.input, trial.reference, ...trial.candidates];
    const pictures = Promise.all(addresses.map(async (address) => {
      const picture = new Image();
      picture.draggable = false;
      picture.src = URL.createObjectURL(await (await ask(`pictures/${address}`)).blob());
      await picture.decode();
      return picture;
    }));
    pictures.catch(() => loaded.delete(trial.input)); // to be tried again
    loaded.set(trial.input, pictures);
  }
  return loaded.get(trial.input);
}

async function forget(trial) {
  const pictures = await loaded.get(trial.input);
  loaded.delete(trial.input);
  for (const picture of pictures ?? []) URL.revokeObjectURL(picture.src);
}

function framed(tag, kind, picture, caption) {
  const element = document.createElement(tag);
  element.className = `picture ${kind}`;
  const frame = document.createElement("span");
  frame.className = "frame";
  frame.append(picture);
  const line = document.createElement("span");
  line.className = "caption";
  line.append(...caption);
  element.append(line, frame);
  return element;
}

function candidate(picture, position) {
  const number = document.createElement("b");
  number.textContent = position + 1;
  picture.alt = "";
  const card = framed("label", "candidate", picture, [number]);
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "choice", value: position });
  radio.setAttribute("aria-label", `Restoration ${position + 1}`);
  radio.addEventListener("change", () => choose(position));
  card.prepend(radio);
  return card;
}

function given(picture, k) {
  picture.alt = NAMES[k];
  return framed("figure", "given", picture, [NAMES[k]]);
}

/** Show the first trial that is left, and load the one after it meanwhile. */
async function present() {
  const [trial, next] = session.trials;
  shown = null;
  choose(null);
  if (!trial) {
    show("done");
    byId("done").querySelector("h1").focus();
    return;
  }
  const pictures = await load(trial);
  const cards = pictures.map((picture, k) => (k < 2 ? given(picture, k) : candidate(picture, k - 2)));
  byId("pictures").replaceChildren(...cards);
  shown = trial;
  byId("pictures").dataset.trial = trial.input;
  aspect = pictures[1].naturalHeight / pictures[1].naturalWidth;
  const done = session.total - session.trials.length;
  Object.assign(byId("progress"), { max: session.total, value: done });
  byId("count").textContent = `${done + 1} of ${session.total}`;
  show("trial");
  arrange();
  zoom.reset();
  scrollTo(0, 0);
  if (next) load(next).catch(() => {}); // said when it is its turn
}

/** The number of columns with which the pictures are largest while all are in view; small ones are scrolled instead. */
function arrange() {
  const board = byId("pictures");
  const count = board.childElementCount;
  if (!count || byId("trial").hidden) return;
  const [gap, border, caption, least] = [8, 6, 26, 160];
  const style = getComputedStyle(board);
  const width = board.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const bars = document.querySelector("header").offsetHeight + document.querySelector("footer").offsetHeight;
  const height = innerHeight - bars - parseFloat(style.paddingBottom);
  const across = (columns) => (width - gap * (columns - 1)) / columns;
  let best = [1, 0];
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const down = ((height - gap * (rows - 1)) / rows - border - caption) / aspect + border;
    const size = Math.min(across(columns), down);
    if (size > best[1]) best = [columns, size];
  }
  if (best[1] < least) {
    const columns = Math.max(2, Math.floor((width + gap) / (least + gap)));
    best = [columns, across(columns)];
  }
  board.style.setProperty("--columns", best[0]);
  board.style.setProperty("--width", `${Math.floor(best[1])}px`);
  zoom.apply();
}

function choose(position) {
  chosen = shown && position;
  for (const [k, radio] of byId("pictures").querySelectorAll("input").entries()) radio.checked = k === chosen;
  byId("confirm").disabled = chosen === null;
  byId("confirm").textContent = chosen === null ? "Confirm" : `Confirm ${chosen + 1}`;
}

async function confirmChoice() {
  if (busy || chosen === null) return;
  busy = true;
  byId("confirm").disabled = true;
  complain("");
  try {
    const body = JSON.stringify({ choice: shown.candidates[chosen] });
    await ask("api/vote", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    forget(session.trials.shift());
    await presentOrSay();
  } catch (error) {
    if (error instanceof Refused && error.status < 500) await resume(); // answered in another tab, or the cookie is gone
    else {
      const waits = error instanceof Refused && error.status === 503;
      complain(`Your answer could not be stored. ${waits ? "Wait a little" : "Check the connection"} and confirm again.`);
      byId("confirm").disabled = false;
    }
  } finally {
    busy = false;
  }
}

async function presentOrSay() {
  try {
    await present();
    complain("");
  } catch {
    complain("The pictures could not be loaded. Check the connection and reload the page.");
  }
}

/** Where this session stands; begins nothing. */
async function resume(options = {}) {
  try {
    const state = await (await ask("api/session", options)).json();
    Object.assign(session, { total: state.total, trials: state.trials });
    document.title = state.title;
    for (const [name, value] of Object.entries({ title: state.title, total: state.total, shown: state.shown }))
      for (const element of document.querySelectorAll(`.${name}`)) element.textContent = value;
    if (state.started) await presentOrSay();
    else show("intro");
  } catch (error) {
    const waits = error instanceof Refused && error.status === 503;
    complain(
      waits
        ? "The study cannot store answers at the moment. Wait a little and try again."
        : "The study cannot be reached. Check the connection and reload the page."
    );
  }
}

async function begin() {
  if (busy) return;
  busy = true;
  complain("");
  await resume({ method: "POST" });
  busy = false;
}

function onKey(event) {
  if (!byId("intro").hidden && event.key === "Enter" && event.target.tagName !== "BUTTON") {
    event.preventDefault();
    begin();
    return;
  }
  if (byId("trial").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
  const count = byId("pictures").querySelectorAll("input").length;
  const arrow = { ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowDown: [0, 1] }[event.key];
  if (/^[1-9]$/.test(event.key) && Number(event.key) <= count) pick(Number(event.key) - 1);
  else if (arrow && event.shiftKey) zoom.pan(0.2 * arrow[0], 0.2 * arrow[1]);
  else if (arrow) pick(chosen === null ? 0 : (chosen + arrow[0] + arrow[1] + count) % count);
  else if (event.key === "+" || event.key === "=") zoom.by(zoom.STEP);
  else if (event.key === "-") zoom.by(1 / zoom.STEP);
  else if (event.key === "0") zoom.reset();
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") confirmChoice();
  else return;
  event.preventDefault();
}

function pick(position) {
  byId("pictures").querySelectorAll("input")[position].focus();
  choose(position);
}

byId("begin").addEventListener("click", begin);
byId("confirm").addEventListener("click", confirmChoice);
document.addEventListener("keydown", onKey);
addEventListener("resize", arrange);
resume();
