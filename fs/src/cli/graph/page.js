// Moves, zooms and searches the picture; shows the neighbours of a note that is clicked.
"use strict";
const svg = document.querySelector("svg");
const view = svg.viewBox.baseVal;
const nodes = [...svg.querySelectorAll("g[data-node]")];
const lines = [...svg.querySelectorAll("line")];
const told = document.getElementById("told");
svg.removeAttribute("width");
svg.removeAttribute("height");

svg.addEventListener("wheel", (event) => {
  event.preventDefault();
  const by = Math.exp(event.deltaY * 0.001);
  const box = svg.getBoundingClientRect();
  const x = view.x + ((event.clientX - box.left) / box.width) * view.width;
  const y = view.y + ((event.clientY - box.top) / box.height) * view.height;
  view.x = x - (x - view.x) * by;
  view.y = y - (y - view.y) * by;
  view.width *= by;
  view.height *= by;
}, { passive: false });

svg.addEventListener("pointermove", (event) => {
  if (event.buttons !== 1) return;
  const scale = Math.max(view.width / svg.clientWidth, view.height / svg.clientHeight);
  view.x -= event.movementX * scale;
  view.y -= event.movementY * scale;
});

// Shows the notes of a set, and the lines between them.
function show(wanted) {
  for (const node of nodes) node.classList.toggle("dim", wanted !== null && !wanted.has(node.dataset.node));
  for (const line of lines) {
    const both = wanted === null || (wanted.has(line.dataset.from) && wanted.has(line.dataset.to));
    line.classList.toggle("dim", !both);
  }
}

for (const node of nodes) {
  node.addEventListener("click", (event) => {
    event.stopPropagation();
    const wanted = new Set([node.dataset.node]);
    for (const line of lines) {
      if (line.dataset.from === node.dataset.node) wanted.add(line.dataset.to);
      if (line.dataset.to === node.dataset.node) wanted.add(line.dataset.from);
    }
    told.textContent = " " + node.querySelector("title").textContent;
    show(wanted);
  });
}
svg.addEventListener("dblclick", () => { told.textContent = ""; show(null); });

document.getElementById("find").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase();
  if (!words) return show(null);
  const found = nodes.filter((node) => node.textContent.toLowerCase().includes(words));
  show(new Set(found.map((node) => node.dataset.node)));
});
