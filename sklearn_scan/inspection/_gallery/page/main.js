// What is shown, by the address; keys; and the start.

const KEYS = [
  ["← ↑ → ↓", "to the next image or cluster"],
  ["Enter", "open it"],
  ["s", "select it, with others; also Ctrl or Shift and a click, or a long touch"],
  ["m", "move the image, or merge the cluster"],
  ["x", "mark as wrong, or take the mark off"],
  ["r", "rename the cluster"],
  ["n, p", "next and previous cluster"],
  ["u, Shift+u", "undo, redo"],
  ["/", "search"],
  ["Esc", "close, or back to all clusters"],
  ["?", "this list"],
];
const THEMES = ["auto", "light", "dark"];
const THEME_STORE = "sklearn_scan.gallery.theme";

// --- where we are --------------------------------------------------------------------

function route() {
  const hash = location.hash.slice(1);
  const cluster = /^cluster-(\d+)$/.exec(hash);
  mapView.isShown = hash === "map" && !byId("search").value;
  if (byId("search").value) showFound(byId("search").value);
  else if (cluster && +cluster[1] < nClusters) showCluster(+cluster[1]);
  else if (hash === "map") showMap();
  else if (hash === "edits") showEdits();
  else showOverview();
  for (const name of ["overview", "map", "edits"]) {
    const isHere = hash === name || (name === "overview" && (!hash || cluster !== null));
    byId(`tab-${name}`).setAttribute("aria-current", isHere ? "page" : "false");
  }
  showPanel();
  requestDraw();
}

// After an edit the same place is shown again, with the same element in focus, or the one
// that is now where it was: images are gone through one by one.
function refresh() {
  const scroll = scrollY;
  const isOpen = document.querySelector(".listing")?.open;
  const focused = rememberFocus();
  if (mapView.isShown) showPanel();
  else route();
  requestDraw();
  paintTiles();
  showTools();
  const listing = isOpen && document.querySelector(".listing");
  if (listing) {
    listing.open = true;
    listing.dispatchEvent(new Event("toggle")); // now, so that the page can be scrolled
  }
  scrollTo(0, scroll);
  focused()?.focus({ preventScroll: true });
}

// Return a function that finds the element in focus when all have been made anew.
function rememberFocus() {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return () => null;
  if (focused.id) return () => byId(focused.id);
  const section = focused.closest("section, details, #panel, #view");
  const place = section?.getAttribute("aria-label");
  const home = () =>
    section?.id
      ? byId(section.id)
      : document.querySelector(`#view [aria-label="${place}"]`);
  const { sample, name } = focused.dataset;
  if (name) return () => home()?.querySelector(`[data-name="${name}"]`);
  if (!sample) return () => null;
  const at = [...section.querySelectorAll(".tile")].indexOf(focused);
  return () => {
    const tiles = [...(home() ?? byId("view")).querySelectorAll(".tile")];
    const same = tiles.find((tile) => tile.dataset.sample === sample);
    return same ?? tiles[Math.min(at, tiles.length - 1)];
  };
}

function showTools() {
  byId("undo").disabled = edits.done === 0;
  byId("redo").disabled = edits.done === edits.list.length;
  byId("count").hidden = edits.done === 0;
  byId("count").textContent = edits.done;
}

// --- light and dark --------------------------------------------------------------------

const matchDark = () => {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", `Light or dark: ${theme}`);
  byId("theme").title = `Light or dark: ${theme}`;
  requestDraw();
}

function switchTheme() {
  const before = document.documentElement.dataset.theme ?? "auto";
  const theme = THEMES[(THEMES.indexOf(before) + 1) % THEMES.length];
  setTheme(theme);
  try {
    localStorage.setItem(THEME_STORE, theme);
  } catch {
    // It holds until the page is closed.
  }
  announce(`Colours: ${theme}.`);
}

function recallTheme() {
  try {
    const theme = localStorage.getItem(THEME_STORE);
    if (THEMES.includes(theme)) setTheme(theme);
  } catch {
    // As the system has it.
  }
}

// --- keys ------------------------------------------------------------------------------

function showHelp() {
  const rows = KEYS.map(([keys, text]) =>
    make("div", {}, make("dt", {}, make("kbd", {}, keys)), make("dd", {}, text)),
  );
  byId("help").replaceChildren(
    make("h2", { id: "help-title" }, "Keys"),
    make("dl", {}, ...rows),
    make(
      "p",
      { class: "quiet" },
      "Edits stay in this browser. Download them as JSON, and apply_edits(estimator, file) takes them to Python.",
    ),
    makeButton("Close", () => byId("help").close()),
  );
  openDialog(byId("help"));
}

const ACTIONS = {
  "?": showHelp,
  "/": () => byId("search").focus(),
  u: undo,
  U: redo,
  m: moveOrMerge,
  x: toggleWrong,
  s: () => targetOf() >= 0 && toggleSelected(targetOf()),
  r: renameHere,
  n: () => stepCluster(".step:last-child"),
  p: () => stepCluster(".step"),
  Escape: stepBack,
};

function listenToKeys(event) {
  if (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    document.querySelector("dialog[open]")
  )
    return;
  const isTyping = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && event.target.id === "search") clearSearch();
  if (isTyping) return;
  if (event.key.startsWith("Arrow")) moveFocus(event);
  else if (Object.hasOwn(ACTIONS, event.key)) {
    event.preventDefault();
    ACTIONS[event.key]();
  }
}

const targetOf = () =>
  +(document.activeElement.closest("[data-sample]")?.dataset.sample ?? picked.current);

const clusterHere = () => {
  const home =
    document.activeElement.closest("[data-cluster]") ??
    document.querySelector(".heading[data-cluster]");
  return home ? +home.dataset.cluster : -1;
};

// What is selected or in focus has precedence over the image that is open.
function moveOrMerge() {
  const cluster = clusterHere();
  const { activeElement } = document;
  const isOnCluster =
    activeElement.closest("[data-cluster]") && !activeElement.closest("[data-sample]");
  if (isOnCluster && !picked.selected.size) askMerge(cluster);
  else if (targets().length) askMove();
  else if (cluster >= 0) askMerge(cluster);
  else announce("Choose an image or a cluster first.");
}

function renameHere() {
  let cluster = clusterHere();
  if (cluster < 0 && picked.current >= 0) cluster = state.clusters[picked.current];
  const input = document.querySelector(`[data-name="${cluster}"]`);
  if (!input) return announce("Choose a cluster first.");
  input.focus();
  input.select();
}

function stepCluster(selector) {
  const link = document.querySelector(selector);
  if (link) location.hash = link.hash;
}

function stepBack() {
  if (picked.selected.size) clearSelection();
  else if (picked.current >= 0) closePanel();
  else if (byId("search").value) clearSearch();
  else if (location.hash.startsWith("#cluster-")) location.hash = "#overview";
}

function clearSearch() {
  byId("search").value = "";
  byId("search").blur();
  route();
}

// To the left and to the right in the order of the page; up and down to what is nearest
// there on the screen.
function moveFocus(event) {
  const focused = document.activeElement;
  const home = focused.closest("#panel") ?? byId("view");
  const stops = [
    ...home.querySelectorAll("#view .tiles .tile, .open, #panel .tile"),
  ].filter((each) => each.offsetParent);
  if (!stops.length) return;
  event.preventDefault();
  const here = stops.indexOf(focused);
  const wanted = here < 0 ? stops[0] : findStop(stops, here, event.key);
  wanted?.focus();
  wanted?.scrollIntoView({ block: "nearest" });
  if (wanted?.dataset.sample && picked.current >= 0 && home === byId("view"))
    openPanel(+wanted.dataset.sample);
}

function findStop(stops, here, key) {
  if (key === "ArrowRight") return stops[here + 1];
  if (key === "ArrowLeft") return stops[here - 1];
  const sign = key === "ArrowDown" ? 1 : -1;
  const centre = (element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return [left + width / 2, top + height / 2];
  };
  const [x, y] = centre(stops[here]);
  const cost = (element) => {
    const [otherX, otherY] = centre(element);
    const down = sign * (otherY - y);
    return down > 8 ? down + 2 * Math.abs(otherX - x) : Infinity;
  };
  const costs = stops.map(cost);
  const least = Math.min(...costs);
  return least < Infinity ? stops[costs.indexOf(least)] : undefined;
}

// --- start -----------------------------------------------------------------------------

function start() {
  byId("title").textContent = data.title;
  recall();
  recallTheme();
  listeners.push(refresh);
  addEventListener("hashchange", () => {
    byId("search").value = "";
    route();
    scrollTo(0, 0);
  });
  // A link to where we are changes no address.
  for (const link of document.querySelectorAll("nav a"))
    link.addEventListener("click", clearSearch);
  addEventListener("keydown", listenToKeys);
  byId("search").addEventListener("input", route);
  byId("skip").addEventListener("click", () => byId("view").focus());
  const buttons = {
    undo,
    redo,
    "save-json": saveJson,
    "save-csv": saveCsv,
    theme: switchTheme,
    "help-button": showHelp,
  };
  for (const [id, action] of Object.entries(buttons))
    byId(id).addEventListener("click", action);
  // Two windows of this page share what is stored.
  addEventListener("storage", (event) => event.key === STORE && (recall(), refresh()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", requestDraw);
  showTools();
  route();
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start();
