// The action: what keys, the pad, the cameras and the sliders make of it.

import { element, shortNumber } from "/drawing.js";

const INNER = 0.9; // share of a pad, or a picture, that the range takes: its edges are easily reached
const SPEED = 1.2; // half ranges a second that a key moves a value which holds
const SLOW = 0.3; // with Shift
const TAP_S = 0.05; // what a short press counts for, at least

const DIRECTIONS = {
  ArrowLeft: [0, -1], KeyA: [0, -1], ArrowRight: [0, 1], KeyD: [0, 1],
  ArrowDown: [1, -1], KeyS: [1, -1], ArrowUp: [1, 1], KeyW: [1, 1],
  KeyQ: [2, -1], KeyE: [2, 1],
};

export class Action {
  // `range`: low, high, rest and hold, see scd_wm.play.actions; `onDrive` is called when a person acts.
  constructor(range, onDrive) {
    Object.assign(this, range);
    this.onDrive = onDrive;
    this.values = [...this.rest];
    this.size = this.rest.length;
    this.switches = this.size > 2; // whether the space bar switches the last value
    this.pressed = new Set();
    this.slow = false;
    this.dots = [];
    this.sliders = [];
  }

  set(index, value) {
    this.values[index] = Math.min(Math.max(value, this.low[index]), this.high[index]);
    this.show();
  }

  setAll(values) {
    values.forEach((value, i) => { this.values[i] = Math.min(Math.max(value ?? this.rest[i], this.low[i]), this.high[i]); });
    this.show();
  }

  // Whether a value returns to rest when let go.
  returns(index) {
    return !this.hold && !(this.switches && index === this.size - 1);
  }

  let_go() {
    this.rest.forEach((value, i) => { if (this.returns(i)) this.values[i] = value; });
    this.show();
  }

  show() {
    for (const dot of this.dots) {
      dot.style.left = `${100 * this.place(0)}%`;
      dot.style.top = `${this.size > 1 ? 100 * (1 - this.place(1)) : 50}%`;
    }
    this.sliders.forEach(({ slider, text }, i) => {
      slider.value = this.values[i];
      text.textContent = shortNumber(this.values[i]);
    });
  }

  place(index) {
    const share = (this.values[index] - this.low[index]) / (this.high[index] - this.low[index]);
    return (1 - INNER) / 2 + INNER * share;
  }

  // Dragging on `box` sets the first two values, up is more; `dot` shows them.
  addPad(box, dot) {
    this.dots.push(dot);
    const drag = (event) => {
      const { left, top, width, height } = box.getBoundingClientRect();
      const shares = [(event.clientX - left) / width, 1 - (event.clientY - top) / height];
      shares.slice(0, this.size).forEach((share, i) => {
        this.set(i, this.low[i] + ((share - (1 - INNER) / 2) / INNER) * (this.high[i] - this.low[i]));
      });
      this.onDrive();
    };
    box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      document.activeElement?.blur();
      box.setPointerCapture(event.pointerId);
      box.classList.add("held");
      drag(event);
    });
    box.addEventListener("pointermove", (event) => { if (box.classList.contains("held")) drag(event); });
    for (const end of ["pointerup", "pointercancel"]) {
      box.addEventListener(end, () => { box.classList.remove("held"); this.let_go(); });
    }
  }

  addSliders(box) {
    this.sliders = this.values.map((_, i) => {
      const [low, high] = [this.low[i], this.high[i]];
      const slider = element("input", { type: "range", min: low, max: high, step: (high - low) / 200 });
      slider.setAttribute("aria-label", `value ${i + 1} of the action`);
      const text = element("output");
      slider.addEventListener("input", () => { this.values[i] = Number(slider.value); this.show(); this.onDrive(true); });
      slider.addEventListener("change", () => { if (this.returns(i)) this.set(i, this.rest[i]); });
      slider.addEventListener("pointerup", () => slider.blur()); // arrow keys drive again
      box.append(element("label", { className: "slider" }, element("span", { textContent: `action ${i + 1}` }), slider, text));
      return { slider, text };
    });
  }

  // The keys that drive, as pairs of their names and what they do.
  get keyNames() {
    const last = `action ${this.size}`;
    return [
      [["←", "→", "A", "D"], "action 1"],
      ...(this.size > 1 ? [[["↑", "↓", "W", "S"], "action 2"]] : []),
      ...(this.size > 2 ? [[["Q", "E"], "action 3"], [["Space"], last]] : []),
      [["Shift"], "slowly"],
    ];
  }

  // Takes a key if it drives; returns whether it did.
  press(event) {
    this.slow = event.shiftKey;
    if (event.code === "Space" && this.switches) {
      const last = this.size - 1;
      const middle = (this.low[last] + this.high[last]) / 2;
      if (!event.repeat) this.set(last, this.values[last] > middle ? this.low[last] : this.high[last]);
      this.onDrive();
      return true;
    }
    if (!(event.code in DIRECTIONS) || DIRECTIONS[event.code][0] >= this.size) return false;
    if (!this.pressed.has(event.code)) {
      this.pressed.add(event.code);
      this.moveBy(TAP_S);
      if (this.pressed.size === 1) this.move();
    }
    this.onDrive();
    return true;
  }

  release(event) {
    this.slow = event.shiftKey;
    const [index] = DIRECTIONS[event.code] ?? [];
    if (!this.pressed.delete(event.code)) return;
    if (this.returns(index) && !this.direction(index)) this.set(index, this.rest[index]);
  }

  releaseAll() {
    if (this.pressed.size === 0) return;
    this.pressed.clear();
    this.let_go();
  }

  direction(index) {
    const sum = [...this.pressed].reduce((total, code) => total + (DIRECTIONS[code][0] === index ? DIRECTIONS[code][1] : 0), 0);
    return Math.sign(sum);
  }

  // Moves values for as long as keys are down.
  move(before = performance.now()) {
    requestAnimationFrame((now) => {
      if (this.pressed.size === 0) return;
      this.moveBy(Math.max(now - before, 0) / 1000);
      this.move(now);
    });
  }

  // Moves values as far as the keys that are down do in so many seconds.
  moveBy(duration_s) {
    for (const index of [0, 1, 2].slice(0, this.size)) {
      const direction = this.direction(index) * (this.slow ? SLOW : 1);
      if (direction === 0) continue;
      const half = (this.high[index] - this.low[index]) / 2;
      if (this.returns(index)) this.set(index, this.rest[index] + direction * half);
      else this.set(index, this.values[index] + direction * SPEED * half * duration_s);
    }
  }
}
