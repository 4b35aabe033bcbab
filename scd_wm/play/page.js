// The page: asks the server for frames, one request after the other, and shows them.

import { Action } from "/controls.js";
import { OutcomeCard, VectorCard, element, showImage } from "/drawing.js";

const MOST_FRAMES = 120; // of plots
const LIMITS = [2, 5, 10, 15, 20, 30]; // frames a second
const UNDO_MANY = 10;

const $ = (id) => document.getElementById(id);
const wait = (duration_ms) => new Promise((resolve) => setTimeout(resolve, duration_ms));

let session, world, view, action;
let trace = [];
let playing = false, wasPaused = false;
let rate = null, imagined_ms = null; // frames a second and what one takes, smoothed
let cards = [];
const screens = { imagined: {}, recorded: {} }; // camera: canvas

// Requests.

async function ask(name, given = {}) {
  let answer;
  try {
    answer = await fetch(`/api/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ session, beside: $("beside").checked, ...given }),
    });
  } catch {
    throw new Error("the server does not answer: it was ended; start it again and reload the page");
  }
  const told = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(told.error);
  return told;
}

// Does one thing after the other, in the order asked for; what goes wrong is shown and ends playing.
let queue = Promise.resolve(true);
function inTurn(work) {
  queue = queue.then(async () => {
    try {
      await work();
      $("message").hidden = true;
      return true;
    } catch (error) {
      $("message").textContent = error.message;
      $("message").hidden = false;
      setPlaying(false);
      return false;
    }
  });
  return queue;
}

const sampler = () => ({ num_steps: Number($("steps").value), solver: $("solver").value });

// Asks for something that moves the page to another moment.
const go = (name, given = {}) => inTurn(async () => showMoved(await ask(name, given)));

// Playing.

function setPlaying(on) {
  if (on === playing) return;
  playing = on;
  $("toggle-text").textContent = on ? "Pause" : "Play";
  document.body.classList.toggle("playing", on);
  if (on) play();
}

function toggle() {
  wasPaused = playing;
  setPlaying(!playing);
}

async function play() {
  let last = null;
  while (playing) {
    const began = performance.now();
    if (last !== null) rate = smooth(rate, 1000 / (began - last));
    last = began;
    if (!(await step())) break;
    await wait(Math.max(0, 1000 / Number($("limit").value) - (performance.now() - began)));
  }
}

function step() {
  return inTurn(async () => {
    const what = $("replay").checked ? { replay: true } : { action: action.values };
    const told = await ask("step", { ...what, ...sampler() });
    imagined_ms = smooth(imagined_ms, told.imagined_ms);
    trace.push({ vectors: told.vectors, outcome: told.outcome });
    if (trace.length > MOST_FRAMES) trace.shift();
    await show(told);
  });
}

const smooth = (before, now) => before === null ? now : before + 0.1 * (now - before);

// A person acts: their own action takes the place of recorded ones, and time begins to run.
function driven(bySlider = false) {
  $("replay").checked = false;
  if (!playing && !wasPaused && !bySlider) setPlaying(true);
}

// Showing.

async function showMoved(told) {
  trace = told.trace;
  rate = null;
  showPlaces("branches", told.branches, "switch", "drop", told.branches.length > 1, "");
  showPlaces("snapshots", told.snapshots, "restore", "forget", true, "None yet: a snapshot is a moment to come back to.");
  if (action.hold && told.time === 0) action.setAll(told.recorded_action ?? action.values);
  await show(told);
}

async function show(told) {
  view = told;
  if ($("replay").checked && told.recorded_action) action.setAll(told.recorded_action);
  const images = Object.entries(told.images).map(([name, address]) => showImage(screens.imagined[name].canvas, address));
  for (const [name, { canvas, caption }] of Object.entries(screens.recorded)) {
    const address = told.recorded_images?.[name];
    canvas.classList.toggle("off", !address);
    if (address) images.push(showImage(canvas, address));
    caption.textContent = `recorded${address ? `, frame ${told.recorded_frame}` : ": nothing at this time"}`;
  }
  showBeside();
  for (const card of cards) card.show(trace);
  showWhere();
  await Promise.all(images);
}

function showBeside() {
  const both = $("beside").checked && view.start.episode !== null;
  const count = world.cameras.length;
  for (const { figure } of Object.values(screens.recorded)) figure.hidden = !both;
  $("screens").classList.toggle("rows", count > (both ? 1 : 2));
  $("screens").style.setProperty("--columns", both ? 2 : Math.max(1, Math.min(count, 2)));
}

function showWhere() {
  const { start, time } = view;
  const from = start.episode === null ? `from nothing, seed ${start.seed}` : `from ${start.name}, frame ${start.frame}`;
  $("where").textContent = time === 0 ? (start.episode === null ? `first frame ${from}` : `recorded: ${start.name}, frame ${start.frame}`) : `${time} imagined ${from}`;
  $("rate").textContent = [rate === null ? "" : `${rate.toFixed(0)} frames a second`, imagined_ms === null ? "" : `${imagined_ms.toFixed(0)} ms to imagine one`].filter(Boolean).join(" · ");
  $("undo").disabled = view.undo < 1;
  $("undo-many").disabled = view.undo < 2;
  const here = document.querySelector("#branches .here");
  if (!here) return;
  here.querySelector("span").textContent = placeText(view);
  const first = Object.values(view.images)[0];
  if (first) here.querySelector("img").src = first;
}

const placeText = ({ start, time }) => `${start.name ?? "nothing"} +${time}`;

function showPlaces(id, places, go_there, give_up, may_give_up, nothing) {
  const what = id === "branches" ? "branch" : "snapshot";
  $(id).replaceChildren(...places.map((place) => {
    const there = element("button", { type: "button", title: `go to ${what} ${place.id}` });
    if (place.image) there.append(element("img", { src: place.image, alt: "" }));
    there.append(element("span", { textContent: placeText(place) }));
    there.addEventListener("click", () => go(go_there, { id: place.id }));
    const box = element("div", { className: place.here ? "place here" : "place", dataset: { id: place.id } }, there);
    if (may_give_up) {
      const away = element("button", { type: "button", className: "away", textContent: "×", title: `give up ${what} ${place.id}` });
      away.addEventListener("click", () => go(give_up, { id: place.id }));
      box.append(away);
    }
    return box;
  }));
  if (places.length === 0) $(id).append(element("p", { className: "empty", textContent: nothing }));
}

// Where to begin.

function chosenStart() {
  const episode = Math.min(Math.max(Math.round(Number($("episode").value)) || 0, 0), world.episodes.length - 1);
  const last = world.episodes[episode].frames - 1;
  const frame = Math.min(Math.max(Math.round(Number($("frame").value)) || 0, 0), last);
  return { episode, frame, last };
}

function showStart() {
  const { episode, frame, last } = chosenStart();
  Object.assign($("frame-range"), { max: last, value: frame });
  $("frame").max = last;
  $("episode-name").textContent = `${world.episodes[episode].name}: ${last + 1} frames`;
  if (world.cameras.length > 0) preview(episode, frame);
}

let wanted = null; // the newest preview asked for; those it overtakes are not fetched
function preview(episode, frame) {
  const busy = wanted !== null;
  wanted = { episode, frame };
  if (busy) return;
  inTurn(async () => {
    const asked = wanted;
    wanted = null;
    const told = await ask("peek", asked);
    await showImage($("preview"), told.images[world.cameras[0].name]);
  });
}

const seed = () => Math.min(Math.max(Math.round(Number($("seed").value)) || 0, 0), 2 ** 31 - 1);

function begin() {
  const { episode, frame } = chosenStart();
  Object.assign($("episode"), { value: episode });
  Object.assign($("frame"), { value: frame });
  return go("reset", { episode, frame, seed: seed(), ...sampler() });
}

function beginAnywhere() {
  const episode = Math.floor(Math.random() * world.episodes.length);
  $("episode").value = episode;
  $("frame").value = Math.floor(Math.random() * Math.max(1, world.episodes[episode].frames - 1));
  showStart();
  return begin();
}

const beginFromNothing = () => go("reset", { episode: null, seed: seed(), ...sampler() });
const again = () => go("reset", { ...view.start, name: undefined, seed: seed(), ...sampler() });
const undo = (steps) => { if (view.undo > 0) go("undo", { steps: Math.min(steps, view.undo) }); };
const branch = () => go("branch", { own_noise: $("own-noise").checked });

// Putting the page together.

function addScreens() {
  for (const { name, height, width } of world.cameras) {
    for (const kind of ["imagined", "recorded"]) {
      const canvas = element("canvas", { width, height });
      canvas.setAttribute("aria-label", `${name}, ${kind}`);
      const screen = element("div", { className: kind === "recorded" ? "screen real" : "screen", dataset: { camera: name, kind } }, canvas);
      const caption = element("span", { textContent: kind });
      const figure = element("figure", {}, screen,
        element("figcaption", { className: kind === "recorded" ? "real" : "" }, element("i"), caption, ` ${world.cameras.length > 1 ? name : ""}`));
      if (kind === "imagined") {
        const dot = element("i", { className: "dot" });
        screen.append(dot);
        action.addPad(screen, dot);
      }
      screens[kind][name] = { canvas, caption, figure };
      $("screens").append(figure);
    }
  }
}

function addCards() {
  const outcomes = world.outcomes.map((name) => new OutcomeCard(name, world.reward));
  const vectors = world.vectors.map((vector) => new VectorCard(vector));
  cards = [...outcomes, ...vectors];
  $("numbers").append(...cards.map((card) => card.box));
}

function addChoices() {
  const fps = Math.round(world.fps);
  const limits = [...new Set([...LIMITS, fps])].sort((a, b) => a - b);
  $("limit").append(...limits.map((n) => new Option(n === fps ? `${n}, recorded` : n, n, n === fps, n === fps)), new Option("unlimited", 1e9));
  Object.assign($("steps"), { max: world.most_steps, value: world.num_steps });
  $("steps-text").textContent = world.num_steps;
  $("solver").append(...world.solvers.map((name) => new Option(name, name, false, name === world.solver)));
  $("release").checked = !action.hold;
  $("begin-box").hidden = world.episodes.length === 0;
  $("episode").max = Math.max(0, world.episodes.length - 1);
}

function addAbout() {
  const facts = [
    [[...new Set(world.cameras.map((c) => `${c.width}×${c.height}`))].join(", ") || "no", world.cameras.length > 0 ? "px" : "camera"],
    [(world.num_parameters / 1e6).toFixed(1), "M parameters"],
    [world.episodes.length || "no", world.episodes.length === 1 ? "episode" : "episodes"],
  ];
  $("about").append(...facts.map(([value, what]) => element("li", {}, element("b", { textContent: value }), " ", element("span", { textContent: what }))));
  $("name").textContent = world.name;
  document.title = `${world.name} · scd_wm play`;
  const keys = [...action.keyNames];
  $("keys").append(...keys.map(([names, what]) => element("li", {}, ...names.flatMap((n) => [element("kbd", { textContent: n }), " "]), what)));
  $("toggle-key").textContent = action.switches ? "P" : "Space";
}

const CLICKS = {
  toggle, step, undo: () => undo(1), "undo-many": () => undo(UNDO_MANY), again, branch,
  snapshot: () => go("snapshot"), begin, random: beginAnywhere, nothing: beginFromNothing,
};
const KEYS = { KeyP: toggle, Enter: toggle, Period: step, KeyZ: () => undo(1), Backspace: () => undo(1), KeyR: again, KeyB: branch, KeyM: () => go("snapshot") };

function listen() {
  for (const [id, work] of Object.entries(CLICKS)) $(id).addEventListener("click", () => work());
  document.addEventListener("click", (event) => { // the space bar drives again
    const pressed = event.target.closest("button, input[type=checkbox], select");
    if (pressed && event.detail > 0 && pressed.tagName !== "SELECT") pressed.blur();
  });
  $("release").addEventListener("change", () => { action.hold = !$("release").checked; action.let_go(); });
  $("steps").addEventListener("input", () => { $("steps-text").textContent = $("steps").value; });
  $("steps").addEventListener("change", () => $("steps").blur());
  for (const id of ["solver", "limit"]) $(id).addEventListener("change", () => $(id).blur());
  $("beside").addEventListener("change", () => go("switch", { id: view.branch }));
  $("replay").addEventListener("change", () => {
    if ($("replay").checked) $("beside").checked = true;
    go("switch", { id: view.branch });
  });
  $("frame-range").addEventListener("input", () => { $("frame").value = $("frame-range").value; showStart(); });
  $("frame-range").addEventListener("change", () => $("frame-range").blur());
  for (const id of ["episode", "frame"]) $(id).addEventListener("input", showStart);
  document.addEventListener("keydown", pressed);
  document.addEventListener("keyup", (event) => action.release(event));
  addEventListener("blur", () => action.releaseAll());
  document.addEventListener("visibilitychange", () => { if (document.hidden) setPlaying(false); });
  addEventListener("resize", () => { for (const card of cards) card.show(trace); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const card of cards) card.show(trace); });
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  if (target.matches("select, input:not([type=checkbox])")) return;
  if (target.matches("button, input") && ["Space", "Enter"].includes(event.code)) return;
  const work = event.code === "Space" && !action.switches ? toggle : KEYS[event.code];
  if (action.press(event)) event.preventDefault();
  else if (work) {
    event.preventDefault();
    if (!event.repeat || event.code === "Period") work();
  }
}

async function open() {
  const told = await ask("open");
  ({ session, world } = told);
  action = new Action(world.action, driven);
  addScreens();
  action.addPad($("pad"), $("pad").querySelector(".dot"));
  $("pad").classList.toggle("flat", action.size === 1);
  action.addSliders($("sliders"));
  addCards();
  addChoices();
  addAbout();
  listen();
  $("main").hidden = false;
  action.show();
  await showMoved(told);
  if (world.episodes.length > 0) showStart();
  document.body.dataset.ready = "yes";
}

inTurn(open).then((fine) => { if (!fine) $("main").hidden = false; });
