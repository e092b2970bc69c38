/** The page: joins the list, the settings, the viewer and the server. */
import "./before-after.js";
import { byId, saveWhenFound, setText } from "./dom.js";
import { Intake } from "./intake.js";
import { List } from "./list.js";
import { Queue } from "./queue.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { Viewer } from "./viewer.js";
import * as words from "./words.js";

const TITLE = document.title;
const server = new Server(askToken);
const settings = new Settings();
const queue = new Queue(server, settings);
const viewer = new Viewer(queue, server, (picture) => list.focus(picture));
const list = new List(queue, server, settings, {
  open: async (picture) => {
    if (await queue.address(picture)) viewer.open(picture);
  },
  again: (picture) => queue.start(picture.state === "done" ? queue.add([picture.file]) : [picture]),
});
const intake = new Intake((files) => queue.add(files));

/** Ask for the token until the server takes it. */
function askToken() {
  const [dialog, field, wrong] = [byId("entry"), byId("token"), byId("wrong-token")];
  wrong.textContent = "";
  field.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    byId("entry-form").onsubmit = async (event) => {
      event.preventDefault();
      wrong.textContent = "";
      try {
        await server.present(field.value.trim());
        dialog.close();
        resolve();
      } catch (error) {
        wrong.textContent = error.status === 401 ? "That is not this server's token." : "The server does not answer. Try again.";
        field.select();
      }
    };
  });
}
byId("entry").addEventListener("cancel", (event) => event.preventDefault()); // nothing works without it

function secondsLeft() {
  const running = queue.pictures.find(({ state }) => state === "running");
  return running?.job.seconds_left ?? null;
}

/** What is not a part of a row: buttons for all pictures, the sum, the title. */
function overview() {
  const [ready, unfinished, done] = [queue.ready, queue.unfinished, queue.done];
  const total = queue.pictures.length;
  const introduced = byId("introduction").contains(document.activeElement); // its buttons are about to be hidden
  document.body.classList.toggle("empty", total === 0);
  byId("start").disabled = ready.length === 0 || !settings.complete;
  setText(byId("start"), ready.length ? `Enlarge ${words.count(ready.length, "picture")}` : "Enlarge");
  byId("start").hidden = ready.length === 0 && unfinished.length > 0;
  if (introduced && total) byId("start").focus({ preventScroll: true }); // the keyboard goes on here, not at the top
  byId("cancel-all").hidden = unfinished.length === 0;
  byId("zip").hidden = done.length < 2;
  byId("zip").href = server.zip(done.map(({ job }) => job.id));
  byId("clear").hidden = done.length < 2;
  setText(byId("total"), words.count(total, "picture"));
  const finished = done.length + queue.pictures.filter(({ state }) => state === "failed").length;
  const left = secondsLeft();
  const last = unfinished.length === 1 && left !== null ? ` · ${words.about(left)} left` : "";
  setText(byId("sum"), unfinished.length ? `${finished} of ${finished + unfinished.length} finished${last}` : "");
  byId("sum").hidden = unfinished.length === 0;
  document.title = unfinished.length ? `${finished}/${finished + unfinished.length} · ${TITLE}` : TITLE;
}

let planned = false;
function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    overview();
  });
}

/** Say aloud what ended, not every tile. */
const said = new WeakMap();
function announce(picture) {
  const { state, name, error } = picture;
  if (said.get(picture) === state) return;
  const first = !said.has(picture);
  said.set(picture, state);
  const text = { ready: `${name}: ${error}`, done: `${name} is finished.`, failed: `${name}: ${error}`, cancelled: `${name} is cancelled.` }[state];
  if (text && !first) byId("announcer").textContent = text;
}

for (const name of ["added", "change", "removed"]) queue.addEventListener(name, plan);
queue.addEventListener("added", ({ detail }) => {
  detail.forEach((picture) => said.set(picture, picture.state));
  byId("announcer").textContent = `${words.count(detail.length, "picture")} added.`;
});
queue.addEventListener("change", ({ detail }) => announce(detail));
settings.addEventListener("change", plan);
server.addEventListener("lost", () => { byId("connection").hidden = false; });
server.addEventListener("found", () => { byId("connection").hidden = true; });
byId("start").addEventListener("click", () => {
  settings.fold();
  queue.start();
});
byId("cancel-all").addEventListener("click", () => queue.unfinished.reverse().forEach((picture) => queue.cancel(picture)));
saveWhenFound(byId("zip"), async () => {
  const kept = await queue.check();
  return kept.length ? server.zip(kept.map(({ job }) => job.id)) : null;
});
byId("clear").addEventListener("click", () => queue.done.forEach((picture) => queue.remove(picture)));
byId("example").addEventListener("click", async () => {
  const blob = await (await fetch("/assets/example.jpg")).blob();
  queue.add([new File([blob], "cat.jpg", { type: "image/jpeg" })]);
});
addEventListener("beforeunload", (event) => {
  if (queue.unfinished.length) event.preventDefault();
});

overview();
const limits = await server.limits();
settings.offer(limits.formats);
intake.offer(limits.formats);
const models = await server.models(); // asks for the token, where one is needed
setText(byId("model"), models.find((model) => model.default)?.name ?? "");
await queue.restore();
queue.limits = limits;
