// The settings in force. What may be secret is masked before it leaves the service.

import { get } from "./api.js";
import { check, el, field, table } from "./dom.js";

export const title = "Settings";

export function open(area) {
  const only = el("input", { type: "checkbox", onchange: () => draw() });
  const filter = el("input", { id: "filter", type: "search", oninput: () => draw(), autocomplete: "off" });
  const result = el("div", { class: "card" });
  area.append(el("h1", {}, title), el("p", { class: "soft" }, "They come from environment variables and change with a restart only. Secrets never leave the service: *** says that one was given."),
    el("div", { class: "toolbar" }, field("Name contains", filter), check("only what was set", only)), result);
  let settings = [];
  function draw() {
    const rows = settings.filter((each) => each.name.includes(filter.value.trim().toUpperCase()) && (each.set || !only.checked));
    result.replaceChildren(rows.length === 0 ? el("p", { class: "empty" }, "No such setting.") : table("Values and defaults", [
      { title: "Name", kind: "tight", cell: (each) => el("code", {}, each.name) },
      { title: "Value", cell: (each) => (each.value ? el("code", {}, each.value) : el("span", { class: "soft" }, "–")) },
      { title: "From", kind: "tight", cell: (each) => (each.set ? el("span", { class: "badge good" }, "environment") : el("span", { class: "badge" }, "default")) },
      { title: "Meaning", kind: "long", cell: (each) => el("span", { class: "soft" }, each.comment) },
    ], rows));
  }
  return async () => {
    settings = await get("config");
    draw();
  };
}
