// Building the page. Text becomes text nodes and nothing else: no string is ever read as markup.

/** Makes an element. `on...` attributes are listeners, true and false are flags. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A table; a column is {title, cell(row), kind?: "number" | "tight" | "long"}. Keeps the focus on what had it. */
export function table(caption, columns, rows) {
  const head = columns.map((column) => el("th", { scope: "col", class: column.kind }, column.title));
  const body = rows.map((row) => el("tr", {}, columns.map((column) => el("td", { class: column.kind }, column.cell(row)))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

/** A labelled input. */
export function field(label, input, wide = false) {
  return el("div", { class: wide ? "field wide" : "field" }, el("label", { for: input.id }, label), input);
}

/** A labelled checkbox. */
export function check(label, input) {
  return el("label", { class: "check" }, input, label);
}

/** Names and values. */
export function pairs(...entries) {
  const shown = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "pairs" }, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** Content that is replaced only when what it shows has changed, and never under somebody's hands. */
export function live(container) {
  let shown;
  return (data, build) => {
    const now = JSON.stringify(data);
    if (now === shown) return;
    const active = document.activeElement;
    const mark = container.contains(active) ? active.dataset?.mark : undefined;
    if (container.contains(active) && !mark && active.matches("input, select")) return;
    shown = now;
    container.replaceChildren(...[build(data)].flat());
    if (mark) container.querySelector(`[data-mark="${CSS.escape(mark)}"]`)?.focus();
  };
}
