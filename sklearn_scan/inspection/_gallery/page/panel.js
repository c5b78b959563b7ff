// The image that was clicked: what it is, what it might be, and what is near to it.

function openPanel(i) {
  picked.current = i;
  showPanel();
  paintTiles();
  mapView.draw?.();
}

function closePanel() {
  const tile = document.querySelector(`#view [data-sample="${picked.current}"]`);
  picked.current = -1;
  byId("panel").hidden = true;
  paintTiles();
  mapView.draw?.();
  tile?.focus();
}

function showPanel() {
  const i = picked.current;
  if (i < 0) return;
  const panel = byId("panel");
  panel.hidden = false;
  panel.replaceChildren(
    make(
      "div",
      { class: "panel-head" },
      make("h2", { class: "caption" }, captionOf(i)),
      makeButton("×", closePanel, { class: "close", "aria-label": "Close" }),
    ),
    make(
      "div",
      { class: "large", role: "img", "aria-label": describeSample(i) },
      makeThumb(i),
    ),
    makeStanding(i),
    make(
      "div",
      { class: "actions" },
      makeButton("Move to…", () => onlyThis(askMove), { title: "m" }),
      makeButton(
        state.wrong.has(i) ? "Not wrong" : "Wrong",
        () => onlyThis(toggleWrong),
        { title: "x" },
      ),
    ),
    make("h3", {}, "Probabilities"),
    makeChances(i),
    ...makeNeighbors(i),
  );
}

// Buttons of the panel mean its image, also where others are selected.
function onlyThis(action) {
  picked.selected.clear();
  action();
}

function makeStanding(i) {
  const cluster = state.clusters[i];
  const fitted = state.merged[data.labels[i]];
  const texts = [];
  if (cluster !== fitted) texts.push(`moved from ${state.names[fitted]}`);
  if (state.wrong.has(i)) texts.push("marked as wrong");
  return make(
    "p",
    { class: "standing" },
    "in ",
    make("a", { href: `#cluster-${cluster}` }, state.names[cluster]),
    texts.length ? `, ${texts.join(", ")}` : "",
    data.captions ? make("span", { class: "quiet" }, ` · row ${i}`) : null,
  );
}

function makeChances(i) {
  const rows = choicesOf(i).map(({ cluster, chance }) => {
    const name =
      data.names[cluster] === state.names[cluster]
        ? state.names[cluster]
        : state.names[state.merged[cluster]];
    return make(
      "li",
      {},
      make("a", { href: `#cluster-${state.merged[cluster]}` }, name),
      makeBar(chance, `${name}: ${formatChance(chance)}`),
      make("span", { class: "value" }, formatChance(chance)),
    );
  });
  return make("ul", { class: "chances" }, ...rows);
}

function makeNeighbors(i) {
  const near = neighborsOf(i);
  if (!near.length) return [];
  const tiles = makeTiles(near, (j) => [state.names[state.clusters[j]]]);
  return [make("h3", {}, "Nearest neighbours"), tiles];
}
