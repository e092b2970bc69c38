"use strict";
/** One magnification for all pictures: where one looks in one of them, one looks in all. */
const zoom = (() => {
  const MOST = 16;
  const STEP = Math.SQRT2;
  const CLICK = 6; // CSS pixels a pointer may move and still be a click
  const state = { scale: 1, x: 0, y: 0 }; // x, y: what is at the frame's upper left, as a share of the picture
  const pointers = new Map();
  let moved = 0;
  const board = document.getElementById("pictures");

  function apply() {
    const most = 1 - 1 / state.scale;
    state.x = Math.min(Math.max(state.x, 0), most);
    state.y = Math.min(Math.max(state.y, 0), most);
    board.style.setProperty("--scale", state.scale);
    board.style.setProperty("--x", state.x);
    board.style.setProperty("--y", state.y);
    board.classList.toggle("enlarged", state.scale > 1);
    const picture = board.querySelector(".frame img");
    const perPixel = picture ? (picture.offsetWidth * state.scale * devicePixelRatio) / picture.naturalWidth : 0;
    board.classList.toggle("pixels", perPixel >= 3);
    document.getElementById("factor").textContent = `${Number(state.scale.toFixed(1))}×`;
    document.getElementById("smaller").disabled = state.scale <= 1;
    document.getElementById("larger").disabled = state.scale >= MOST;
  }

  /** Multiply the scale; the place (u, v), shares of the frame, stays where it is. */
  function by(factor, u = 0.5, v = 0.5) {
    const before = state.scale;
    const wanted = Math.min(Math.max(before * factor, 1), MOST);
    state.scale = Math.abs(wanted - 1) < 0.02 ? 1 : wanted;
    state.x += u * (1 / before - 1 / state.scale);
    state.y += v * (1 / before - 1 / state.scale);
    apply();
  }

  /** Move by shares of the frame. */
  function pan(dx, dy) {
    state.x += dx / state.scale;
    state.y += dy / state.scale;
    apply();
  }

  function reset() {
    Object.assign(state, { scale: 1, x: 0, y: 0 });
    apply();
  }

  function share(frame, x, y) {
    const box = frame.getBoundingClientRect();
    return [(x - box.left) / box.width, (y - box.top) / box.height];
  }

  const span = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y);

  board.addEventListener("wheel", (event) => {
    const frame = event.target.closest(".frame");
    if (!frame) return;
    event.preventDefault();
    by(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), ...share(frame, event.clientX, event.clientY));
  }, { passive: false });

  board.addEventListener("pointerdown", (event) => {
    const frame = event.target.closest(".frame");
    if (!frame || event.button !== 0) return;
    if (pointers.size === 0) moved = 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, frame });
  });

  window.addEventListener("pointermove", (event) => {
    const pointer = pointers.get(event.pointerId);
    if (!pointer) return;
    const [dx, dy] = [event.clientX - pointer.x, event.clientY - pointer.y];
    const box = pointer.frame.getBoundingClientRect();
    moved += Math.hypot(dx, dy);
    const before = [...pointers.values()].map(({ x, y }) => ({ x, y }));
    pointer.x = event.clientX;
    pointer.y = event.clientY;
    const after = [...pointers.values()];
    if (after.length === 2) {
      moved = Infinity;
      const middle = share(after[0].frame, (after[0].x + after[1].x) / 2, (after[0].y + after[1].y) / 2);
      by(span(after) / Math.max(span(before), 1), ...middle);
      pan(-dx / 2 / box.width, -dy / 2 / box.height);
    } else if (state.scale > 1) {
      pan(-dx / box.width, -dy / box.height);
    }
  });

  for (const name of ["pointerup", "pointercancel"])
    window.addEventListener(name, (event) => pointers.delete(event.pointerId));

  // A drag ends with a click, which must not choose anything.
  board.addEventListener("click", (event) => {
    if (event.detail > 0 && moved > CLICK && event.target.closest(".frame")) event.preventDefault();
  }, { capture: true });
  board.addEventListener("dragstart", (event) => event.preventDefault());

  document.getElementById("larger").addEventListener("click", () => by(STEP));
  document.getElementById("smaller").addEventListener("click", () => by(1 / STEP));
  return { by, pan, reset, apply, STEP };
})();
