// The inventory: keys in order, page by page, found by what they begin with.

import { get, query } from "./api.js";
import { check, el, field, table } from "./dom.js";
import { bytes, moment, visible } from "./words.js";

export const title = "Inventory";

export function open(area, { values }) {
  const bucket = el("input", { id: "bucket", list: "buckets", required: true, value: values.get("bucket") ?? "", autocomplete: "off", spellcheck: "false" });
  const prefix = el("input", { id: "prefix", value: values.get("prefix") ?? "", autocomplete: "off", spellcheck: "false", placeholder: "photos/2026/" });
  const deleted = el("input", { type: "checkbox", checked: values.get("deleted") === "true" });
  const pending = el("input", { type: "checkbox", checked: values.get("pending") === "true" });
  const names = el("datalist", { id: "buckets" });
  const result = el("div", { class: "card" });
  const go = (more = {}) => {
    location.hash = `#/inventory${query({ bucket: bucket.value, prefix: prefix.value, deleted: deleted.checked, pending: pending.checked, ...more })}`;
  };
  area.append(el("h1", {}, title), names,
    el("form", { class: "toolbar", role: "search", onsubmit: (event) => { event.preventDefault(); go(); } },
      field("Bucket", bucket), field("Key begins with", prefix, true),
      check("gone objects too", deleted), check("only what the mirror lacks", pending),
      el("button", { type: "submit" }, "Show")), result);

  return async () => {
    const wanted = { bucket: values.get("bucket"), prefix: values.get("prefix"), after: values.get("after"), deleted: values.get("deleted"), pending: values.get("pending") };
    get("buckets").then((answer) => names.replaceChildren(...answer.buckets.map((each) => el("option", { value: each.bucket }))), () => {});
    if (!wanted.bucket) {
      result.replaceChildren(el("p", { class: "empty" }, "Which bucket?"));
      return;
    }
    const begun = performance.now();
    const answer = await get("inventory", { ...wanted, limit: 100 });
    const took = Math.round(performance.now() - begun);
    if (answer.rows.length === 0) {
      result.replaceChildren(el("p", { class: "empty" }, wanted.after ? "That was all." : "No key of this bucket begins so."));
      return;
    }
    result.replaceChildren(
      table(`${answer.rows.length} keys in ${took} ms`, [
        { title: "Key", cell: (row) => el("a", { class: "key", href: `#/explain${query({ bucket: wanted.bucket, key: row.key })}` }, visible(row.key)) },
        { title: "Size", kind: "number", cell: (row) => bytes(row.size) },
        { title: "Type", cell: (row) => row.content_type },
        { title: "Modified", kind: "tight", cell: (row) => moment(row.last_modified) },
        { title: "State", kind: "tight", cell: state },
      ], answer.rows),
      el("div", { class: "pager" },
        wanted.after ? el("button", { type: "button", class: "quiet", onclick: () => history.back() }, "Previous page") : null,
        answer.next ? el("button", { type: "button", class: "quiet", onclick: () => go({ after: answer.next }) }, "Next page") : el("span", { class: "soft" }, "last page")));
  };
}

function state(row) {
  return [
    row.deleted ? [el("span", { class: "badge" }, "gone"), " "] : [],
    row.is_backed_up ? el("span", { class: "badge good" }, "mirrored") : el("span", { class: "badge warn" }, "not mirrored"),
  ].flat();
}
