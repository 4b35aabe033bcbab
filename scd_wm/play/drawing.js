// What is drawn: images, lines over time, levels of numbers.

export const LINES = ["--model", "--shuffled", "--constant", "--ceiling", "--copy"];
const LEAST_FRAMES = 40; // that a plot has room for

const colours = new Map();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colours.clear());

function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name));
  return colours.get(name);
}

export function element(kind, parts = {}, ...children) {
  const { dataset, ...properties } = parts;
  const made = Object.assign(document.createElement(kind), properties);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

// Shows the image of a data: address, (H, W) pixels of it one to one; CSS enlarges them.
export async function showImage(canvas, address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  canvas.getContext("2d").drawImage(image, 0, 0);
}

export function shortNumber(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 10000)) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

function percent(value) {
  if (value === null) return "–";
  return `${(100 * value).toFixed(value > 0.0995 && value < 0.995 ? 0 : 1)} %`;
}

// Lines of numbers between two limits; limits that are free grow with what they must hold.
export class Plot {
  constructor(canvas, { low, high, free = false, half = false }) {
    Object.assign(this, { canvas, low, high, free, half });
  }

  // `lines`: for each a list of numbers between `low` and `high`, or null where there is none.
  draw(lines) {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const shown = lines.flat().filter((x) => x !== null);
    const low = this.free ? Math.min(this.low, ...shown) : this.low;
    const high = this.free ? Math.max(this.high, ...shown) : this.high;
    const edge = 2 * ratio;
    const y = (value) => height - edge - ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (height - 2 * edge);
    pen.lineWidth = ratio;
    pen.strokeStyle = colour("--line");
    for (const value of this.half ? [low, (low + high) / 2, high] : [low, high]) stroke(pen, [[0, y(value)], [width, y(value)]]);
    pen.lineWidth = 1.75 * ratio;
    lines.forEach((line, index) => {
      pen.strokeStyle = colour(LINES[index % LINES.length]);
      const room = Math.max(LEAST_FRAMES, line.length);
      const offset = room - line.length;
      stroke(pen, line.map((value, i) => value === null ? null : [((i + offset) / (room - 1)) * width, y(value)]));
    });
  }
}

function stroke(pen, points) {
  pen.beginPath();
  let open = false;
  for (const point of points) {
    if (point === null) { open = false; continue; }
    if (open) pen.lineTo(...point); else pen.moveTo(...point);
    open = true;
  }
  pen.stroke();
}

// One outcome: what it is now, and how it came there.
export class OutcomeCard {
  constructor(name, reward) {
    this.name = name;
    const [title, unit] = { reward: ["Reward", "predicted"], terminated: ["Termination", "probability"], success: ["Success", "probability"] }[name];
    this.value = element("p", { className: "value", textContent: "–" });
    const canvas = element("canvas", { className: "plot" });
    this.box = element("div", { className: "fact", dataset: { outcome: name } },
      element("p", { className: "name", textContent: title }), this.value, element("p", { className: "when", textContent: unit }), canvas);
    const limits = name === "reward" ? { low: Math.min(0, reward.mean - reward.std), high: reward.mean + 2 * reward.std, free: true } : { low: 0, high: 1, half: true };
    this.plot = new Plot(canvas, limits);
  }

  show(trace) {
    const line = trace.map((numbers) => numbers.outcome[this.name] ?? null);
    this.value.textContent = this.name === "reward" ? shortNumber(line.at(-1)) : percent(line.at(-1));
    this.plot.draw([line]);
  }
}

// One vector: a line and a level for each of its values, between the limits of the data.
export class VectorCard {
  constructor({ name, low, high }) {
    Object.assign(this, { name, low, high });
    const canvas = element("canvas", { className: "plot" });
    this.levels = low.map((_, i) => {
      const mark = element("i");
      mark.style.background = `var(${LINES[i % LINES.length]})`;
      return { mark, text: element("output"), number: i + 1 };
    });
    const rows = this.levels.map(({ mark, text, number }) =>
      element("div", { className: "level" }, element("span", { textContent: number }), element("div", { className: "track" }, mark), text));
    this.box = element("div", { className: "card vector", dataset: { vector: name } }, element("p", { className: "name", textContent: name }), canvas,
      element("div", { className: low.length > 6 ? "levels many" : "levels" }, ...rows));
    this.plot = new Plot(canvas, { low: 0, high: 1, half: true });
  }

  show(trace) {
    const share = (value, i) => value === null ? null : (value - this.low[i]) / (this.high[i] - this.low[i]);
    const now = trace.at(-1).vectors[this.name];
    this.levels.forEach(({ mark, text }, i) => {
      mark.style.left = `${100 * Math.min(Math.max(share(now[i], i) ?? 0, 0), 1)}%`;
      text.textContent = shortNumber(now[i]);
    });
    this.plot.draw(this.low.map((_, i) => trace.map((numbers) => share(numbers.vectors[this.name][i], i))));
  }
}
