// What a person changes. All changes are in one list, of which the first `done` hold:
// undo and redo move this number, and the state follows from the fitted clustering by
// doing the changes again. It is quick enough (a copy of the labels), and cannot drift.

const STORE = `sklearn_scan.gallery.${data.digest}`;

const edits = { list: [], done: 0, isKept: true };
const state = { names: [], merged: [], clusters: null, wrong: new Set(), members: null };
const listeners = [];

const CHANGES = {
  rename: ({ cluster, name }) => {
    state.names[cluster] = name;
  },
  // What was merged into `cluster` before goes with it.
  merge: ({ cluster, into }) => {
    state.merged = state.merged.map((end) => (end === cluster ? into : end));
    for (let i = 0; i < nSamples; i++) {
      if (state.clusters[i] === cluster) state.clusters[i] = into;
    }
  },
  // Who is moved is where it belongs.
  move: ({ samples, into }) => {
    for (const i of samples) {
      state.clusters[i] = into;
      state.wrong.delete(i);
    }
  },
  mark: ({ samples, isWrong }) => {
    for (const i of samples) {
      if (isWrong) state.wrong.add(i);
      else state.wrong.delete(i);
    }
  },
};

function derive() {
  state.names = [...data.names];
  state.merged = data.names.map((_, cluster) => cluster);
  state.clusters = data.labels.slice();
  state.wrong = new Set();
  for (const change of edits.list.slice(0, edits.done)) CHANGES[change.type](change);
  summarize();
}

// Size and mean confidence of each cluster as it is now.
function summarize() {
  state.sizes = new Array(nClusters).fill(0);
  state.sums = new Array(nClusters).fill(0);
  for (let i = 0; i < nSamples; i++) {
    state.sizes[state.clusters[i]] += 1;
    state.sums[state.clusters[i]] += data.confidence[i];
  }
}

function edit(change) {
  edits.list = [...edits.list.slice(0, edits.done), change];
  edits.done += 1;
  update();
  announce(`${describeChange(change)}.`, true);
}

function undo() {
  if (edits.done === 0) return;
  edits.done -= 1;
  update();
  announce(`Undone: ${describeChange(edits.list[edits.done])}.`);
}

function redo() {
  if (edits.done === edits.list.length) return;
  edits.done += 1;
  update();
  announce(`Done again: ${describeChange(edits.list[edits.done - 1])}.`);
}

function update() {
  derive();
  keep();
  for (const listener of listeners) listener();
}

function keep() {
  const text = JSON.stringify({ list: edits.list, done: edits.done });
  try {
    localStorage.setItem(STORE, text);
    edits.isKept = true;
  } catch {
    edits.isKept = false;
  }
}

function recall() {
  let text = null;
  try {
    text = localStorage.getItem(STORE);
  } catch {
    edits.isKept = false;
  }
  Object.assign(edits, readStored(text));
  derive();
}

function readStored(text) {
  try {
    const { list, done } = JSON.parse(text);
    if (!list.every(isChange)) return {};
    return { list, done: Math.min(Math.max(0, Number(done) || 0), list.length) };
  } catch {
    return {}; // nothing was stored, or something else
  }
}

// What is stored may have been written by anything.
function isChange(change) {
  const isCluster = (value) => Number.isInteger(value) && value >= 0 && value < nClusters;
  const areSamples = (values) =>
    Array.isArray(values) &&
    values.every((i) => Number.isInteger(i) && i >= 0 && i < nSamples);
  const checks = {
    rename: () => isCluster(change.cluster) && typeof change.name === "string",
    merge: () => isCluster(change.cluster) && isCluster(change.into),
    move: () => areSamples(change.samples) && isCluster(change.into),
    mark: () => areSamples(change.samples) && typeof change.isWrong === "boolean",
  };
  return Object.hasOwn(checks, change.type) && checks[change.type]();
}

const isLeft = (cluster) => state.merged[cluster] === cluster;
const clustersLeft = () => state.merged.filter((end, cluster) => end === cluster);
const membersOf = (cluster) => {
  const found = [];
  for (let i = 0; i < nSamples; i++) if (state.clusters[i] === cluster) found.push(i);
  return found;
};
const confidenceOf = (cluster) => state.sums[cluster] / state.sizes[cluster];

// The fitted clusters that are part of a cluster.
const partsOf = (cluster) =>
  data.names.map((_, part) => part).filter((part) => state.merged[part] === cluster);

// The nearest cluster that is not part of this one already.
function nearestTo(cluster) {
  for (let k = 0; k < data.near[cluster].length; k++) {
    if (data.near[cluster][k] < 0) continue;
    const other = state.merged[data.near[cluster][k]];
    if (other !== cluster) return { cluster: other, share: data.links[cluster][k] };
  }
  return null;
}

function describeChange(change) {
  const count = change.samples && formatCount(change.samples.length, what);
  const name = (cluster) => `“${state.names[cluster]}”`;
  switch (change.type) {
    case "rename":
      return `Named cluster ${change.cluster} “${change.name}”`;
    case "merge":
      return `Merged ${name(change.cluster)} into ${name(change.into)}`;
    case "move":
      return `Moved ${count} to ${name(change.into)}`;
    default:
      return change.isWrong ? `Marked ${count} as wrong` : `Took the mark off ${count}`;
  }
}

// --- downloads ---------------------------------------------------------------------

function editsAsJson() {
  const moved = {};
  const merged = {};
  for (let i = 0; i < nSamples; i++) {
    const here = state.merged[data.labels[i]];
    if (state.clusters[i] !== here) moved[i] = state.clusters[i];
  }
  state.merged.forEach((end, cluster) => {
    if (end !== cluster) merged[cluster] = end;
  });
  const { format, version, digest } = data;
  const wrong = [...state.wrong].sort((a, b) => a - b);
  const found = { format, version, digest, names: state.names, merged, moved, wrong };
  return `${JSON.stringify(found, null, 1)}\n`;
}

// Edits of another browser, as changes; an error where they are not of this clustering.
function changesFrom(text) {
  const found = JSON.parse(text);
  if (found.digest !== data.digest) throw new Error("it is of another clustering");
  const changes = [];
  found.names.forEach((name, cluster) => {
    if (name !== state.names[cluster]) changes.push({ type: "rename", cluster, name });
  });
  for (const [cluster, into] of Object.entries(found.merged)) {
    changes.push({ type: "merge", cluster: +cluster, into });
  }
  const moved = Map.groupBy(Object.entries(found.moved), ([, into]) => into);
  for (const [into, entries] of moved) {
    changes.push({ type: "move", samples: entries.map(([i]) => +i), into });
  }
  if (found.wrong.length)
    changes.push({ type: "mark", samples: found.wrong, isWrong: true });
  if (!changes.every(isChange)) throw new Error("it is damaged");
  return changes;
}

function addEdits(text) {
  let changes = [];
  try {
    changes = changesFrom(text);
  } catch (error) {
    return announce(`The file is not taken: ${error.message}.`);
  }
  edits.list = [...edits.list.slice(0, edits.done), ...changes];
  edits.done = edits.list.length;
  update();
  announce(`Added ${formatCount(changes.length, "edit")}.`);
}

// A cell that begins like a formula is one to a spreadsheet. apply_edits takes the quote
// off again, and so a name that begins with one has a second.
const asCell = (text) => {
  const harmless = /^[=+\-@\t\r']/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
};

function labelsAsCsv() {
  const lines = ["index,file,fitted_cluster,cluster,name,wrong"];
  for (let i = 0; i < nSamples; i++) {
    const cluster = state.clusters[i];
    const texts = [captionOf(i), state.names[cluster]].map(asCell);
    const isWrong = state.wrong.has(i) ? 1 : 0;
    lines.push([i, texts[0], data.labels[i], cluster, texts[1], isWrong].join(","));
  }
  return `${lines.join("\r\n")}\r\n`;
}

function download(text, name, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
