// What the page shows. It lies in the document as text, which is never taken for markup;
// numbers are base64, as that is read ten times as fast as JSON.

const NOWHERE = 65535;
const TYPES = { uint16: Uint16Array, int32: Int32Array, float32: Float32Array };

const byId = (id) => document.getElementById(id);

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

function unpack({ type, values }) {
  return new TYPES[type](decodeBase64(values).buffer);
}

function readData() {
  const found = JSON.parse(byId("data").textContent);
  const packed = [
    "labels",
    "confidence",
    "choices",
    "chances",
    "neighbors",
    "sheetOf",
    "slotOf",
  ];
  for (const name of packed) found[name] = unpack(found[name]);
  for (const name of Object.keys(found.maps)) found.maps[name] = unpack(found.maps[name]);
  return found;
}

const data = readData();
const nSamples = data.nSamples;
const nClusters = data.names.length;

// How well a cluster is found again; null where this was not measured, or is not a number.
const stabilityOf = (cluster) => data.stability?.[cluster] ?? null;

const captionOf = (i) => (data.captions ? data.captions[i] : `row ${i}`);

function choicesOf(i) {
  const start = i * data.nChoices;
  return Array.from(
    data.choices.subarray(start, start + data.nChoices),
    (cluster, k) => ({
      cluster,
      chance: data.chances[start + k],
    }),
  );
}

function neighborsOf(i) {
  const start = i * data.nNeighbors;
  const found = data.neighbors.subarray(start, start + data.nNeighbors);
  return Array.from(found).filter((j) => j >= 0);
}

const formatCount = (count, what) =>
  `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
const what = data.hasImages ? "image" : "row";

// What is said of clusters that are not stable.
function judgeStability(stability) {
  const [unstable, stable] = data.stabilityBounds;
  if (stability >= stable) return null;
  return stability < unstable ? "unstable" : "doubtful";
}

// 0.9996 is not 1: whoever reads "100 %" takes it for certain.
function formatChance(chance) {
  if (chance === 0) return "0 %";
  const percent = 100 * chance;
  if (percent >= 99.95 && chance < 1) return "> 99.9 %";
  if (percent > 0 && percent < 0.05) return "< 0.1 %";
  return `${percent.toFixed(percent < 10 || percent >= 99 ? 1 : 0)} %`;
}
