// Videos play only while they are on screen, a click stops one, the button stops all.
const videos = [...document.querySelectorAll("video")];
const button = document.getElementById("pause");
let stopped = matchMedia("(prefers-reduced-motion: reduce)").matches;
const visible = new Set();

function update() {
  for (const video of videos) {
    if (!stopped && visible.has(video) && !video.dataset.held) video.play().catch(() => {});
    else video.pause();
  }
  button.textContent = stopped ? "Play videos" : "Pause videos";
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.isIntersecting ? visible.add(entry.target) : visible.delete(entry.target);
  update();
});

for (const video of videos) {
  watcher.observe(video);
  video.addEventListener("click", () => {
    video.dataset.held = video.dataset.held ? "" : "yes";
    update();
  });
}
button.hidden = videos.length === 0;
button.addEventListener("click", () => { stopped = !stopped; update(); });
update();
