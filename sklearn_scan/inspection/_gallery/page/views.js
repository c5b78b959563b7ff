// The overview, a cluster, the results of a search, and the list of edits.

const SORTS = {
  number: { text: "number", key: (c) => c },
  unsure: { text: "least sure first", key: (c) => confidenceOf(c) || 0 },
  large: { text: "largest first", key: (c) => -state.sizes[c] },
  close: { text: "nearest pairs first", key: (c) => -(nearestTo(c)?.share ?? -1) },
  unstable: { text: "least stable first", key: (c) => fittedStability(c) ?? 2 },
  name: { text: "name", key: (c) => state.names[c].toLowerCase() },
};
const N_MORE = 120;
const N_FOUND = 240;
const N_MINIATURES = 5;
const MANY_LINKS = 0.03; // of the neighbours: a merge is worth a look

let sorting = "number";

// --- overview ------------------------------------------------------------------------

function showOverview() {
  const select = make(
    "select",
    { id: "sorting", onchange: () => ((sorting = select.value), showOverview()) },
    ...Object.entries(SORTS)
      .filter(([value]) => value !== "unstable" || data.stability)
      .map(([value, { text }]) =>
        make("option", { value, selected: value === sorting }, text),
      ),
  );
  const { key } = SORTS[sorting];
  const clusters = clustersLeft().sort((a, b) =>
    key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a - b,
  );
  byId("view").replaceChildren(
    make(
      "div",
      { class: "heading" },
      make("h2", {}, formatCount(clusters.length, "cluster")),
      make("span", { class: "quiet" }, describeAll()),
      make("label", { class: "sorting" }, "Sort by ", select),
    ),
    ...makeNotes(),
    make("ul", { class: "cards" }, ...clusters.map(makeCard)),
  );
}

function describeAll() {
  const mean = state.sums.reduce((a, b) => a + b, 0) / nSamples;
  return `${formatCount(nSamples, what)}, ${formatChance(mean)} sure on average`;
}

function makeNotes() {
  const notes = [];
  if (data.hasImages && data.nWithout) {
    const count = formatCount(data.nWithout, what);
    notes.push(
      `${count} without a thumbnail: the page would be too large. They are listed by number.`,
    );
  }
  if (!edits.isKept)
    notes.push(
      "This browser stores nothing for this page. Download your edits before you close it.",
    );
  return notes.map((note) => make("p", { class: "note" }, note));
}

function makeCard(cluster) {
  const samples = partsOf(cluster).flatMap((part) => data.random[part]);
  const shown = samples
    .filter((i) => state.clusters[i] === cluster)
    .slice(0, N_MINIATURES);
  return make(
    "li",
    { class: "card", "data-cluster": cluster },
    make(
      "a",
      {
        class: "open",
        href: `#cluster-${cluster}`,
        "aria-label": `Open ${state.names[cluster]}`,
      },
      makeThumb(shownOf(cluster)),
    ),
    make("div", { class: "facts" }, makeNameInput(cluster), makeFacts(cluster)),
    make("div", { class: "miniatures" }, ...shown.map((i) => makeTile(i))),
    makeNear(cluster),
  );
}

// The prototype, or that of a part, as long as it was not moved away.
function shownOf(cluster) {
  const found = [cluster, ...partsOf(cluster)].map((part) => data.prototypes[part]);
  return found.find((i) => i >= 0 && state.clusters[i] === cluster) ?? -1;
}

function makeNameInput(cluster) {
  const input = make("input", {
    class: "name",
    "data-name": cluster,
    "aria-label": `Name of cluster ${cluster}`,
    title: state.names[cluster],
    maxlength: 200,
    spellcheck: "false",
    onchange: () => rename(cluster, input),
    onkeydown: (event) => {
      if (event.key === "Enter") input.blur();
      if (event.key === "Escape") {
        input.value = state.names[cluster];
        input.blur();
      }
    },
  });
  input.value = state.names[cluster];
  return input;
}

function rename(cluster, input) {
  const name = input.value.trim();
  if (name && name !== state.names[cluster]) edit({ type: "rename", cluster, name });
  else input.value = state.names[cluster];
}

function makeFacts(cluster) {
  const size = state.sizes[cluster];
  if (!size) return make("p", { class: "quiet" }, `no ${what} is in it`);
  const sure = formatChance(confidenceOf(cluster));
  return make(
    "p",
    { class: "numbers" },
    state.names[cluster] === `cluster ${cluster}`
      ? null
      : make("span", {}, `#${cluster}`),
    make("span", {}, formatCount(size, what)),
    make("span", {}, `${sure} sure`),
    makeStability(cluster),
    makeBar(confidenceOf(cluster), `mean confidence ${sure}`),
  );
}

// Of a cluster as it was fitted: nothing is known of merged ones.
const fittedStability = (cluster) =>
  partsOf(cluster).length === 1 ? stabilityOf(cluster) : null;

function makeStability(cluster) {
  const stability = fittedStability(cluster);
  if (stability === null) return null;
  const judgement = judgeStability(stability);
  return make(
    "span",
    { title: "how well the cluster is found again in a part of the samples" },
    `stability ${stability.toFixed(2)}`,
    judgement && make("strong", { class: `mark ${judgement}` }, judgement),
  );
}

function makeNear(cluster) {
  const near = nearestTo(cluster);
  if (!near || !state.sizes[cluster]) return null;
  const name = state.names[near.cluster];
  return make(
    "p",
    { class: "near" },
    make("span", { class: "quiet" }, "near "),
    make("a", { href: `#cluster-${near.cluster}` }, name),
    make(
      "span",
      { class: "quiet", title: "of the neighbours of its members are there" },
      formatChance(near.share),
    ),
    makeButton("merge?", () => edit({ type: "merge", cluster, into: near.cluster }), {
      class: near.share >= MANY_LINKS ? "small" : "small unlikely",
      "aria-label": `Merge ${state.names[cluster]} into ${name}`,
    }),
  );
}

// --- one cluster -------------------------------------------------------------------

// How many members are listed, as long as one cluster is shown.
const listed = { cluster: -1, count: N_MORE };

function showCluster(cluster) {
  if (!isLeft(cluster)) return showMerged(cluster);
  if (listed.cluster !== cluster) Object.assign(listed, { cluster, count: N_MORE });
  const parts = (lists) => partsOf(cluster).flatMap((part) => lists[part]);
  const here = (samples) =>
    samples.filter((i) => state.clusters[i] === cluster && !state.wrong.has(i));
  const changed = membersOf(cluster);
  const arrived = changed.filter((i) => state.merged[data.labels[i]] !== cluster);
  const sections = [
    ["Core", "the most confident", here(parts(data.core)), describeConfidence],
    [
      "Borderline",
      "the least confident, and what else they might be",
      here(parts(data.borderline)),
      describeDoubt,
    ],
    [
      "At random",
      "what the cluster is like",
      here(parts(data.random)),
      describeConfidence,
    ],
    ["Moved here", "by you", arrived, describeConfidence],
    [
      "Wrong",
      "marked by you",
      changed.filter((i) => state.wrong.has(i)),
      describeConfidence,
    ],
  ];
  byId("view").replaceChildren(
    makeClusterHeading(cluster),
    ...sections
      .filter(([, , samples]) => samples.length)
      .map((each) => makeSection(...each)),
    makeListing(changed),
  );
}

function makeSection(title, explanation, samples, describe) {
  const heading = make(
    "h3",
    {},
    title,
    " ",
    make("span", { class: "quiet" }, explanation),
  );
  return make("section", { "aria-label": title }, heading, makeTiles(samples, describe));
}

const describeConfidence = (i) => [formatChance(data.confidence[i])];

// Its cluster and the second choice, as they were fitted.
function describeDoubt(i) {
  const [first, second] = choicesOf(i);
  if (!second) return describeConfidence(i);
  return [
    `${formatChance(first.chance)} here`,
    `${formatChance(second.chance)} ${state.names[state.merged[second.cluster]]}`,
  ];
}

function makeClusterHeading(cluster) {
  const left = clustersLeft();
  const at = left.indexOf(cluster);
  const step = (k) => left[(at + k + left.length) % left.length];
  return make(
    "div",
    { class: "heading cluster", "data-cluster": cluster },
    make("a", { href: "#overview", class: "back", "aria-label": "All clusters" }, "←"),
    makeThumb(shownOf(cluster)),
    make("div", { class: "facts" }, makeNameInput(cluster), makeFacts(cluster)),
    make(
      "div",
      { class: "actions" },
      makeNear(cluster),
      makeButton("Merge into…", () => askMerge(cluster)),
      make(
        "a",
        { class: "step", href: `#cluster-${step(-1)}`, "aria-label": "Previous cluster" },
        "‹",
      ),
      make(
        "a",
        { class: "step", href: `#cluster-${step(1)}`, "aria-label": "Next cluster" },
        "›",
      ),
    ),
  );
}

function askMerge(cluster) {
  const near = data.near[cluster].filter((c) => c >= 0).map((c) => state.merged[c]);
  const others = [...new Set([...near, ...clustersLeft()])].filter((c) => c !== cluster);
  chooseCluster(`Merge ${state.names[cluster]} into…`, others, (into) =>
    edit({ type: "merge", cluster, into }),
  );
}

function showMerged(cluster) {
  const into = state.merged[cluster];
  byId("view").replaceChildren(
    make(
      "p",
      { class: "note" },
      `${state.names[cluster]} was merged into `,
      make("a", { href: `#cluster-${into}` }, state.names[into]),
      ".",
    ),
  );
}

// All members, the least confident first; so many at a time that the page stays quick.
function makeListing(members) {
  members.sort((a, b) => data.confidence[a] - data.confidence[b]);
  const body = make("div");
  const show = () => {
    body.replaceChildren(makeTiles(members.slice(0, listed.count), describeConfidence));
    const rest = members.length - listed.count;
    const more = () => ((listed.count += N_MORE), show());
    if (rest > 0)
      body.append(
        makeButton(`Show ${Math.min(rest, N_MORE)} more of ${rest}`, more, {
          class: "more",
        }),
      );
  };
  const open = () => listing.open && !body.children.length && show();
  const listing = make(
    "details",
    { class: "listing", "aria-label": "Members", ontoggle: open },
    make(
      "summary",
      {},
      `All ${formatCount(members.length, "member")}, the least confident first`,
    ),
    body,
  );
  return listing;
}

// --- search and edits --------------------------------------------------------------

let lowered = null;

function showFound(wanted) {
  lowered ??= Array.from({ length: nSamples }, (_, i) => captionOf(i).toLowerCase());
  const found = [];
  lowered.forEach((text, i) => text.includes(wanted.toLowerCase()) && found.push(i));
  const more = found.length > N_FOUND ? `, of which ${N_FOUND} are shown` : "";
  byId("view").replaceChildren(
    make(
      "div",
      { class: "heading" },
      make("h2", {}, `${formatCount(found.length, what)} found${more}`),
    ),
    makeTiles(found.slice(0, N_FOUND), (i) => [
      captionOf(i).split(/[\\/]/).pop(),
      state.names[state.clusters[i]],
    ]),
  );
}

function showEdits() {
  const rows = edits.list.map((change, k) =>
    make("li", { class: k < edits.done ? "" : "undone" }, describeChange(change)),
  );
  const isEmpty = edits.list.length === 0;
  byId("view").replaceChildren(
    make("div", { class: "heading" }, make("h2", {}, isEmpty ? "No edits yet" : "Edits")),
    ...makeNotes(),
    make(
      "p",
      { class: "quiet" },
      isEmpty
        ? "Rename or merge clusters, move images or mark them as wrong. Everything can be undone, and stays in this browser."
        : "They stay in this browser. To take them to Python, download them and pass the file to apply_edits.",
    ),
    make("ol", { class: "edits" }, ...rows),
    make(
      "div",
      { class: "actions" },
      makeButton("Download edits (JSON)", saveJson),
      makeButton("Download labels (CSV)", saveCsv),
      makeOpener(),
      isEmpty ? null : makeButton("Undo all", undoAll),
    ),
  );
}

// A button for the field of a file, which no style makes pleasant.
function makeOpener() {
  const field = make("input", {
    type: "file",
    accept: ".json",
    class: "unseen",
    tabindex: "-1",
    "aria-label": "Edits from another browser",
    onchange: async () => addEdits(await field.files[0].text()),
  });
  return make(
    "span",
    {},
    makeButton("Add edits from a file…", () => field.click()),
    field,
  );
}

function undoAll() {
  edits.done = 0;
  update();
  announce("Undone: everything. Redo brings it back, one by one.");
}

const saveJson = () => download(editsAsJson(), "edits.json", "application/json");
const saveCsv = () => download(`\ufeff${labelsAsCsv()}`, "labels.csv", "text/csv");
