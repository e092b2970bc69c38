/**
 * Wheel, drag, pinch, click and double click on an element, as calls. Places are CSS pixels from its upper left corner.
 *
 *   zoom(factor, x, y)        wheel or pinch
 *   drag(dx, dy, x, from)     one pointer moves; `from` is what it was put down on
 *   click(x, count)           a pointer went down and up; `count` is 2 for the second click of a double click
 *   doubleClick(x, y)
 *   wants(event)              whether a wheel event is ours; else the page scrolls
 */
const STILL = 4; // CSS pixels a pointer may move and still be a click
const TWICE = 350; // milliseconds between the clicks of a double click
const NEAR = 24; // and CSS pixels

const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);

export class Gestures {
  #pointers = new Map();
  #travelled = 0;
  #last = { time: -Infinity, x: 0, y: 0 };

  constructor(element, calls) {
    this.element = element;
    this.calls = calls;
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    element.addEventListener("dragstart", (event) => event.preventDefault());
  }

  #place({ clientX, clientY }) {
    const box = this.element.getBoundingClientRect();
    return { x: clientX - box.left, y: clientY - box.top };
  }

  #wheel(event) {
    if (!this.calls.wants(event)) return;
    event.preventDefault();
    const { x, y } = this.#place(event);
    const speed = event.deltaMode ? 0.05 : event.ctrlKey ? 0.01 : 0.002; // lines; pinch on a touch pad; pixels
    this.calls.zoom(Math.exp(-event.deltaY * speed), x, y);
  }

  #down(event) {
    if (event.button !== 0) return;
    if (this.#pointers.size === 0) this.#travelled = 0;
    this.#pointers.set(event.pointerId, { ...this.#place(event), from: event.target });
    this.element.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const pointer = this.#pointers.get(event.pointerId);
    if (!pointer) return;
    const before = [...this.#pointers.values()].map(({ x, y }) => ({ x, y }));
    const { x, y } = this.#place(event);
    const [dx, dy] = [x - pointer.x, y - pointer.y];
    this.#travelled += Math.hypot(dx, dy);
    Object.assign(pointer, { x, y });
    const after = [...this.#pointers.values()];
    if (after.length === 2) {
      this.#travelled = Infinity;
      const middle = { x: (after[0].x + after[1].x) / 2, y: (after[0].y + after[1].y) / 2 };
      this.calls.zoom(distance(...after) / Math.max(distance(...before), 1), middle.x, middle.y);
      this.calls.drag(dx / 2, dy / 2, middle.x, null);
    } else if (after.length === 1 && this.#travelled > STILL) {
      this.calls.drag(dx, dy, x, pointer.from);
    }
  }

  #up(event) {
    const alone = this.#pointers.size === 1;
    if (!this.#pointers.delete(event.pointerId) || !alone || this.#travelled > STILL) return;
    const { x, y } = this.#place(event);
    const again = event.timeStamp - this.#last.time < TWICE && distance(this.#last, { x, y }) < NEAR;
    this.calls.click(x, again ? 2 : 1);
    if (again) this.calls.doubleClick(x, y);
    this.#last = { time: again ? -Infinity : event.timeStamp, x, y };
  }
}
