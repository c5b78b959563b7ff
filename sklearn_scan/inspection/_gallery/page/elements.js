// Elements, made of text and never of markup.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const makeButton = (text, onclick, attributes = {}) =>
  make("button", { type: "button", onclick, ...attributes }, text);

let toastTimer = 0;

function announce(text, canUndo = false) {
  const toast = byId("toast");
  toast.replaceChildren(make("span", {}, text));
  if (canUndo) toast.append(makeButton("Undo", undo));
  toast.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.classList.remove("shown"), 5000);
}

// A dialog that closes where it is clicked outside.
function openDialog(dialog) {
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  if (!dialog.open) dialog.showModal();
}

function makeBar(share, label) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  return make("span", { class: "meter", role: "img", "aria-label": label }, fill);
}

// --- choosing a cluster --------------------------------------------------------------

// Ask for a cluster by its name; `onchoose` is called with its number.
function chooseCluster(title, clusters, onchoose) {
  const dialog = byId("chooser");
  const list = make("div", { class: "choices" });
  const choose = (cluster) => {
    dialog.close();
    onchoose(cluster);
  };
  const show = () => {
    const wanted = filter.value.trim().toLowerCase();
    const fits = (c) => `${state.names[c]} ${c}`.toLowerCase().includes(wanted);
    list.replaceChildren(...clusters.filter(fits).map((c) => makeChoice(c, choose)));
    if (!list.children.length)
      list.append(make("p", { class: "quiet" }, "No such cluster."));
  };
  const filter = make("input", {
    type: "search",
    "aria-label": "Find a cluster",
    placeholder: "Type a name; Enter takes the first",
    oninput: show,
    onkeydown: (event) => {
      if (event.key === "Enter") list.querySelector("button")?.click();
      if (event.key === "ArrowDown") list.querySelector("button")?.focus();
    },
  });
  dialog.replaceChildren(make("h2", { id: "chooser-title" }, title), filter, list);
  show();
  openDialog(dialog);
  filter.focus();
}

function makeChoice(cluster, choose) {
  const size = formatCount(state.sizes[cluster], what);
  return make(
    "button",
    {
      type: "button",
      class: "choice",
      "data-cluster": cluster,
      onclick: () => choose(cluster),
    },
    makeThumb(data.prototypes[cluster]),
    make("span", {}, state.names[cluster]),
    make("span", { class: "quiet" }, size),
  );
}
