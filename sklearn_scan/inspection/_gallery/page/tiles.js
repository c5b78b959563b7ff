// Thumbnails. A sheet is decoded when the first thumbnail on it is shown.

const sheetUrls = new Map();

const sheetBlob = (number) =>
  new Blob([decodeBase64(byId(`sheet-${number}`).textContent)], { type: "image/jpeg" });

function urlOf(number) {
  if (!sheetUrls.has(number))
    sheetUrls.set(number, URL.createObjectURL(sheetBlob(number)));
  return sheetUrls.get(number);
}

// Where the thumbnail of a sample is on its sheet; null where it has none.
function placeOf(i) {
  const number = data.sheetOf[i];
  if (number === NOWHERE) return null;
  const { cell, tile, columns, rows } = data.sheets[number];
  const slot = data.slotOf[i];
  const column = slot % columns;
  const row = Math.floor(slot / columns);
  return { number, x: column * cell[0], y: row * cell[1], cell, tile, columns, rows };
}

// A sheet behind a window of the size of one thumbnail. Sizes are shares of this window,
// whose own size is up to the style.
function makeThumb(i) {
  const place = i >= 0 ? placeOf(i) : null;
  if (!place)
    return make(
      "span",
      { class: "thumb blank", "aria-hidden": "true" },
      i < 0 ? "–" : `${i}`,
    );
  const { tile, cell, columns, rows, x, y } = place;
  const width = (columns * cell[0]) / tile[0];
  const height = (rows * cell[1]) / tile[1];
  const at = (offset, size, total) =>
    total > 1 ? (offset / size / (total - 1)) * 100 : 0;
  const thumb = make("span", { class: "thumb", "aria-hidden": "true" });
  thumb.style.aspectRatio = `${tile[0]} / ${tile[1]}`;
  thumb.style.backgroundImage = `url("${urlOf(place.number)}")`;
  thumb.style.backgroundSize = `${100 * width}% ${100 * height}%`;
  thumb.style.backgroundPosition = `${at(x, tile[0], width)}% ${at(y, tile[1], height)}%`;
  return thumb;
}

function describeSample(i) {
  const name = state.names[state.clusters[i]];
  const mark = state.wrong.has(i) ? ", marked as wrong" : "";
  return `${captionOf(i)}, in ${name}, ${formatChance(data.confidence[i])} sure${mark}`;
}

// --- what is selected ----------------------------------------------------------------

const picked = { current: -1, selected: new Set(), last: -1 };

function makeTile(i, lines = []) {
  const tile = make(
    "button",
    {
      type: "button",
      class: "tile",
      "data-sample": i,
      "aria-label": [describeSample(i), ...lines].join("; "),
      title: captionOf(i),
      onclick: (event) => pick(i, event),
      oncontextmenu: (event) => pickLong(i, event),
    },
    makeThumb(i),
    ...lines.map((line) => make("span", { class: "line", "aria-hidden": "true" }, line)),
  );
  paintTile(tile, i);
  return tile;
}

function paintTile(tile, i) {
  tile.classList.toggle("wrong", state.wrong.has(i));
  tile.classList.toggle("moved", state.clusters[i] !== state.merged[data.labels[i]]);
  tile.classList.toggle("current", picked.current === i);
  tile.setAttribute("aria-pressed", picked.selected.has(i));
}

const paintTiles = () => {
  for (const tile of document.querySelectorAll(".tile"))
    paintTile(tile, +tile.dataset.sample);
  showSelection();
};

function makeTiles(samples, describe = () => []) {
  const tiles = make("div", { class: "tiles" });
  tiles.append(...samples.map((i) => makeTile(i, describe(i))));
  return tiles;
}

function pick(i, event) {
  const isTap = event.pointerType === "touch" && picked.selected.size > 0;
  if (event.shiftKey && picked.last >= 0) selectRange(event.currentTarget);
  else if (event.ctrlKey || event.metaKey || isTap) toggleSelected(i);
  else openPanel(i);
  picked.last = i;
}

// Where there is no keyboard, a long touch begins a selection.
function pickLong(i, event) {
  if (event.pointerType !== "touch") return;
  event.preventDefault();
  toggleSelected(i);
}

function toggleSelected(i) {
  if (!picked.selected.delete(i)) picked.selected.add(i);
  paintTiles();
}

// From the tile that was touched last to this one, where they are side by side.
function selectRange(tile) {
  const tiles = [...tile.parentElement.children];
  const here = tiles.indexOf(tile);
  const there = tiles.findIndex((other) => +other.dataset.sample === picked.last);
  const [start, end] = there < 0 ? [here, here] : [here, there].sort((a, b) => a - b);
  for (const other of tiles.slice(start, end + 1))
    picked.selected.add(+other.dataset.sample);
  paintTiles();
}

function clearSelection() {
  picked.selected.clear();
  paintTiles();
}

// What keys act on: the selected images, or else the one that is open or in focus.
function targets() {
  if (picked.selected.size) return [...picked.selected].sort((a, b) => a - b);
  const focused = document.activeElement?.closest?.("[data-sample]");
  if (focused) return [+focused.dataset.sample];
  return picked.current >= 0 ? [picked.current] : [];
}

function showSelection() {
  const bar = byId("selection");
  bar.hidden = picked.selected.size === 0;
  if (bar.hidden) return;
  bar.replaceChildren(
    make("strong", {}, `${picked.selected.size} selected`),
    makeButton("Move…", askMove),
    makeButton("Wrong", toggleWrong),
    makeButton("Clear", clearSelection),
  );
}

// --- what is done with them ------------------------------------------------------------

function askMove() {
  const samples = targets();
  if (!samples.length) return announce("Choose an image first.");
  const here = new Set(samples.map((i) => state.clusters[i]));
  const others = orderFor(samples[0]).filter((c) => here.size > 1 || !here.has(c));
  const title = `Move ${samples.length > 1 ? formatCount(samples.length, what) : captionOf(samples[0])} to…`;
  chooseCluster(title, others, (into) => moveTo(samples, into));
}

// The clusters that are left, the more probable ones of a sample first.
function orderFor(i) {
  const likely = choicesOf(i).map(({ cluster }) => state.merged[cluster]);
  return [...new Set([...likely, ...clustersLeft()])];
}

function moveTo(samples, into) {
  picked.selected.clear();
  edit({ type: "move", samples, into });
}

function toggleWrong() {
  const samples = targets();
  if (!samples.length) return announce("Choose an image first.");
  picked.selected.clear();
  const isWrong = !samples.every((i) => state.wrong.has(i));
  edit({ type: "mark", samples, isWrong });
}
