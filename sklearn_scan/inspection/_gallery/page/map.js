// The map: a dot for each sample, and thumbnails where there is room for them.

const SPACE = 46; // pixels between thumbnails
const MOST_BITMAP_BYTES = 150e6;
const MAPS = {
  clusters: {
    text: "by cluster",
    explanation:
      "Each cluster has a place of its own, near to those that are like it. What is in doubt lies on the way to its other choices.",
  },
  embedding: {
    text: "of the embedding",
    explanation:
      "The first two principal components. What is far apart here is different; what is close together need not be alike.",
  },
};
const WIDE = 110; // pixels that a cluster has, for its name to be written

const mapView = {
  draw: null,
  isShown: false,
  source: "clusters",
  points: null,
  shown: [], // thumbnails, the ones in front first
  hasPictures: data.hasImages,
  scale: 1,
  x: 0.5,
  y: 0.5,
};

// --- sheets on the canvas -----------------------------------------------------------

// Those used last come last; the first are dropped when they take too much.
const bitmaps = new Map();

function bitmapOf(number) {
  const found = bitmaps.get(number);
  if (!found) {
    bitmaps.set(number, { image: null });
    loadBitmap(number);
    return null;
  }
  bitmaps.delete(number);
  bitmaps.set(number, found);
  return found.image;
}

async function loadBitmap(number) {
  const image = await createImageBitmap(sheetBlob(number));
  bitmaps.set(number, { image });
  let total = 0;
  for (const each of bitmaps.values())
    total += each.image ? 4 * each.image.width * each.image.height : 0;
  for (const [other, each] of bitmaps) {
    if (total <= MOST_BITMAP_BYTES || other === number) break;
    if (!each.image) continue;
    total -= 4 * each.image.width * each.image.height;
    each.image.close();
    bitmaps.delete(other);
  }
  requestDraw();
}

// --- the view ------------------------------------------------------------------------

function showMap() {
  const canvas = make("canvas", {
    id: "canvas",
    tabindex: "0",
    role: "img",
    "aria-label":
      "Map of all images; arrows move it, plus and minus zoom. The same images are listed by cluster.",
  });
  const tip = make("div", { class: "tip", hidden: true });
  byId("view").replaceChildren(
    makeMapTools(),
    make("div", { class: "map" }, canvas, tip),
    make("p", { class: "quiet", id: "explanation" }, MAPS[mapView.source].explanation),
  );
  mapView.canvas = canvas;
  mapView.tip = tip;
  mapView.draw = requestDraw;
  listenToMap(canvas);
  new ResizeObserver(requestDraw).observe(canvas);
}

function makeMapTools() {
  const select = make(
    "select",
    { "aria-label": "Kind of map", onchange: () => chooseMap(select.value) },
    ...Object.entries(MAPS).map(([value, { text }]) =>
      make("option", { value, selected: value === mapView.source }, text),
    ),
  );
  const box = make("input", {
    type: "checkbox",
    onchange: () => ((mapView.hasPictures = box.checked), requestDraw()),
  });
  box.checked = mapView.hasPictures;
  return make(
    "div",
    { class: "heading" },
    make("h2", {}, "Map"),
    select,
    data.hasImages ? make("label", {}, box, " pictures") : null,
    make(
      "span",
      { class: "zoom" },
      makeButton("−", () => zoom(1 / 1.5), { "aria-label": "Zoom out" }),
      makeButton("+", () => zoom(1.5), { "aria-label": "Zoom in" }),
      makeButton("Fit", resetMap),
    ),
  );
}

function chooseMap(source) {
  mapView.source = source;
  byId("explanation").textContent = MAPS[source].explanation;
  resetMap();
}

function resetMap() {
  Object.assign(mapView, { scale: 1, x: 0.5, y: 0.5 });
  requestDraw();
}

// Zoom so that what is under a point of the canvas stays there.
function zoom(factor, at = null) {
  const { width, height, side } = frame();
  const [px, py] = at ?? [width / 2, height / 2];
  const scale = Math.min(400, Math.max(0.8, mapView.scale * factor));
  mapView.x += ((px - width / 2) / side) * (1 / mapView.scale - 1 / scale);
  mapView.y += ((py - height / 2) / side) * (1 / mapView.scale - 1 / scale);
  mapView.scale = scale;
  requestDraw();
}

// `side` is what a span of one takes where the map is not zoomed.
function frame() {
  const { clientWidth: width, clientHeight: height } = mapView.canvas;
  const [x, y] = extentOf(mapView.source);
  return {
    width,
    height,
    side: Math.min((width - 2 * SPACE) / x, (height - 2 * SPACE) / y),
  };
}

const extents = {};

// Width and height of a map around its centre.
function extentOf(source) {
  if (!extents[source]) {
    const far = [0.05, 0.05];
    data.maps[source].forEach((place, k) => {
      far[k % 2] = Math.max(far[k % 2], Math.abs(place / NOWHERE - 0.5));
    });
    extents[source] = far.map((each) => 2 * each);
  }
  return extents[source];
}

// Coordinates of all samples on the canvas, in pixels of the style.
function project() {
  const { width, height, side } = frame();
  const places = data.maps[mapView.source];
  const zoomed = side * mapView.scale;
  const points = new Float32Array(2 * nSamples);
  for (let i = 0; i < nSamples; i++) {
    points[2 * i] = (places[2 * i] / NOWHERE - mapView.x) * zoomed + width / 2;
    points[2 * i + 1] =
      (1 - places[2 * i + 1] / NOWHERE - mapView.y) * zoomed + height / 2;
  }
  return points;
}

// --- drawing -------------------------------------------------------------------------

let isDrawRequested = false;

function requestDraw() {
  if (isDrawRequested || !mapView.isShown) return;
  isDrawRequested = true;
  requestAnimationFrame(() => {
    isDrawRequested = false;
    if (mapView.isShown) drawMap();
  });
}

function drawMap() {
  const { width, height } = frame();
  const { canvas } = mapView;
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const dark = matchDark();
  mapView.points = project();
  mapView.shown = [];
  drawDots(pen, mapView.points, width, height, dark);
  if (mapView.hasPictures) drawThumbs(pen, mapView.points, width, height, dark);
  if (mapView.source === "clusters") drawNames(pen, mapView.points);
  drawCurrent(pen, mapView.points, dark);
}

// Neighbouring numbers get hues far apart.
const colorOf = (cluster, dark) =>
  `hsl(${(cluster * 137.508 + 210) % 360} ${55 + 15 * (cluster % 3)}% ${dark ? 62 : 42}%)`;

const isInside = (x, y, width, height) =>
  x > -24 && y > -24 && x < width + 24 && y < height + 24;

function drawDots(pen, points, width, height, dark) {
  const size = Math.min(
    9,
    Math.max(2, 2.5 + 50 / Math.sqrt(nSamples) + Math.log2(mapView.scale)),
  );
  const byCluster = data.names.map(() => []);
  for (let i = 0; i < nSamples; i++) {
    if (isInside(points[2 * i], points[2 * i + 1], width, height))
      byCluster[state.clusters[i]].push(i);
  }
  byCluster.forEach((samples, cluster) => {
    pen.fillStyle = colorOf(cluster, dark);
    for (const i of samples)
      pen.fillRect(points[2 * i] - size / 2, points[2 * i + 1] - size / 2, size, size);
  });
}

// One thumbnail for each square of the canvas; prototypes have precedence, and then the
// samples in the order of their sheets, so that few sheets are decoded.
function drawThumbs(pen, points, width, height, dark) {
  const taken = new Map();
  for (let i = 0; i < nSamples; i++) {
    const x = points[2 * i];
    const y = points[2 * i + 1];
    if (data.sheetOf[i] === NOWHERE || !isInside(x, y, width, height)) continue;
    const square = `${Math.floor(x / SPACE)} ${Math.floor(y / SPACE)}`;
    const before = taken.get(square);
    if (before === undefined || data.sheetOf[i] < data.sheetOf[before])
      taken.set(square, i);
  }
  for (const [square, i] of taken) {
    const [column, row] = square.split(" ").map(Number);
    const x = (column + 0.5) * SPACE;
    const y = (row + 0.5) * SPACE;
    if (drawThumb(pen, i, x, y, SPACE - 6, dark)) mapView.shown.push({ i, x, y });
  }
}

function drawThumb(pen, i, x, y, size, dark) {
  const { number, tile, x: left, y: top } = placeOf(i);
  const image = bitmapOf(number);
  if (!image) return false;
  const scale = size / Math.max(...tile);
  const [width, height] = [tile[0] * scale, tile[1] * scale];
  pen.fillStyle = colorOf(state.clusters[i], dark);
  pen.fillRect(x - width / 2 - 2, y - height / 2 - 2, width + 4, height + 4);
  pen.drawImage(
    image,
    left,
    top,
    tile[0],
    tile[1],
    x - width / 2,
    y - height / 2,
    width,
    height,
  );
  return true;
}

// Below the members of each cluster, where there is room.
function drawNames(pen, points) {
  const room = (frame().side * mapView.scale) / Math.ceil(Math.sqrt(1.6 * nClusters));
  if (room < WIDE) return;
  const boxes = data.names.map(() => ({ sum: 0, count: 0, bottom: -Infinity }));
  for (let i = 0; i < nSamples; i++) {
    if (state.clusters[i] !== data.labels[i] || data.confidence[i] < 0.9) continue;
    const box = boxes[state.clusters[i]];
    box.sum += points[2 * i];
    box.count += 1;
    box.bottom = Math.max(box.bottom, points[2 * i + 1]);
  }
  const { fontFamily, color, backgroundColor } = getComputedStyle(
    mapView.canvas.parentElement,
  );
  Object.assign(pen, {
    font: `600 12px ${fontFamily}`,
    textAlign: "center",
    lineWidth: 4,
  });
  Object.assign(pen, {
    fillStyle: color,
    strokeStyle: backgroundColor,
    lineJoin: "round",
  });
  boxes.forEach(({ sum, count, bottom }, cluster) => {
    if (!count) return;
    const name = state.names[state.merged[cluster]];
    const text =
      name.length > room / 7 ? `${name.slice(0, Math.floor(room / 7))}…` : name;
    pen.strokeText(text, sum / count, bottom + 30);
    pen.fillText(text, sum / count, bottom + 30);
  });
}

// The image that is open, and its neighbours: in front of all others.
function drawCurrent(pen, points, dark) {
  const i = picked.current;
  if (i < 0) return;
  const { color } = getComputedStyle(mapView.canvas); // the accent, resolved
  for (const j of [...neighborsOf(i).reverse(), i]) {
    const size = j === i ? SPACE + 10 : SPACE - 14;
    const [x, y] = [points[2 * j], points[2 * j + 1]];
    const isDrawn =
      mapView.hasPictures && placeOf(j) && drawThumb(pen, j, x, y, size, dark);
    const half = (isDrawn ? size : size / 4) / 2 + 2;
    pen.strokeStyle = color;
    pen.lineWidth = j === i ? 3 : 1.5;
    pen.strokeRect(x - half, y - half, 2 * half, 2 * half);
    if (isDrawn) mapView.shown.unshift({ i: j, x, y });
  }
}

// --- pointing --------------------------------------------------------------------------

// The sample under a point: a thumbnail that covers it, or else the nearest dot.
function sampleAt(x, y) {
  if (!mapView.points) return -1;
  if (mapView.hasPictures) {
    const covers = (each) =>
      Math.max(Math.abs(each.x - x), Math.abs(each.y - y)) < SPACE / 2 - 2;
    const hit = mapView.shown.find(covers);
    if (hit) return hit.i;
  }
  let best = -1;
  let least = 14 ** 2;
  for (let i = 0; i < nSamples; i++) {
    const far = (mapView.points[2 * i] - x) ** 2 + (mapView.points[2 * i + 1] - y) ** 2;
    if (far < least) [best, least] = [i, far];
  }
  return best;
}

function listenToMap(canvas) {
  const held = new Map();
  let travelled = 0;
  const at = (event) => [event.offsetX, event.offsetY];
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return showTip(...at(event));
    travelled += dragMap(held, event.pointerId, at(event));
  });
  const release = (event) => {
    const wasHeld = held.delete(event.pointerId);
    const i = sampleAt(...at(event));
    if (event.type === "pointerup" && wasHeld && travelled < 6 && i >= 0) openPanel(i);
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => (mapView.tip.hidden = true));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), at(event));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", moveByKey);
}

// One pointer drags; two zoom around the one that rests.
function dragMap(held, id, now) {
  const before = held.get(id);
  const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
  const other = [...held].find(([key]) => key !== id)?.[1];
  if (other) {
    const far = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    zoom(far(now) / Math.max(1, far(before)), other);
  } else {
    pan(dx, dy);
  }
  held.set(id, now);
  return Math.hypot(dx, dy);
}

function pan(dx, dy) {
  const zoomed = frame().side * mapView.scale;
  mapView.x -= dx / zoomed;
  mapView.y -= dy / zoomed;
  requestDraw();
}

function moveByKey(event) {
  const moves = {
    ArrowLeft: [60, 0],
    ArrowRight: [-60, 0],
    ArrowUp: [0, 60],
    ArrowDown: [0, -60],
  };
  if (moves[event.key]) pan(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function showTip(x, y) {
  const i = sampleAt(x, y);
  const { tip } = mapView;
  tip.hidden = i < 0;
  mapView.canvas.style.cursor = i < 0 ? "grab" : "pointer";
  if (i < 0) return;
  tip.replaceChildren(
    makeThumb(i),
    make("span", {}, captionOf(i)),
    make(
      "span",
      { class: "quiet" },
      `${state.names[state.clusters[i]]}, ${formatChance(data.confidence[i])}`,
    ),
  );
  tip.style.left = `${Math.min(x + 14, frame().width - 170)}px`;
  tip.style.top = `${Math.min(y + 14, frame().height - 150)}px`;
}
