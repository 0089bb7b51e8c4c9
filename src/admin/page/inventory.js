// The inventory: keys in order, page by page, found by what they begin with or have anywhere.

import { get, query } from "./api.js";
import { check, el, field, table } from "./dom.js";
import { bytes, moment, number, visible } from "./words.js";

export const title = "Inventory";

const PAGE = 100;

export function open(area, { values, go, shown }) {
  const text = (name, more = {}) => el("input", { id: name, value: values.get(name) ?? "", autocomplete: "off", spellcheck: "false", ...more });
  const bucket = text("bucket", { list: "buckets", required: true });
  const prefix = text("prefix", { placeholder: "photos/2026/" });
  const contains = text("contains", { placeholder: "invoice" });
  const deleted = el("input", { type: "checkbox", checked: values.get("deleted") === "true" });
  const pending = el("input", { type: "checkbox", checked: values.get("pending") === "true" });
  const names = el("datalist", { id: "buckets" });
  const result = el("div", { class: "card" });
  const wanted = Object.fromEntries(["bucket", "prefix", "contains", "after", "deleted", "pending"].map((name) => [name, values.get(name)]));
  const place = (more = {}) => `#/inventory${query({ ...wanted, ...more })}`;
  const search = (event) => {
    event.preventDefault();
    go(place({ bucket: bucket.value, prefix: prefix.value, contains: contains.value, deleted: deleted.checked, pending: pending.checked, after: null }));
  };
  area.append(el("h1", {}, title), names,
    el("form", { class: "toolbar", role: "search", onsubmit: search },
      field("Bucket", bucket), field("Key begins with", prefix, true), field("Key contains", contains),
      check("deleted keys too", deleted), check("only what the mirror lacks", pending),
      el("button", { type: "submit" }, "Show")), result);
  get("buckets", { count: "false" }).then((answer) => names.replaceChildren(...answer.buckets.map((each) => el("option", { value: each.bucket }))), () => {});

  /** Asks until the page is full: one answer looks at so many keys only, however little it finds. */
  async function look() {
    const rows = [];
    let [after, lookedAt, stopped] = [wanted.after, 0, false];
    for (;;) {
      const answer = await get("inventory", { ...wanted, after, limit: PAGE - rows.length });
      rows.push(...answer.rows);
      lookedAt += answer.looked_at;
      after = answer.next;
      if (!after || rows.length >= PAGE || stopped || !shown()) return { rows, next: after, lookedAt };
      progress(lookedAt, rows.length, after, () => { stopped = true; });
    }
  }

  function progress(lookedAt, found, after, stop) {
    const words = `Looked at ${number(lookedAt)} keys and found ${number(found)}; now behind `;
    const said = result.querySelector(".progress-text");
    if (said) said.replaceChildren(words, el("span", { class: "key" }, visible(after)));
    else result.replaceChildren(el("p", { class: "progress-text", role: "status" }, words, el("span", { class: "key" }, visible(after))),
      el("progress", { "aria-label": "Searching" }), el("div", { class: "actions" }, el("button", { type: "button", class: "quiet", onclick: stop }, "Stop here")));
  }

  return async () => {
    if (!wanted.bucket) {
      result.replaceChildren(el("p", { class: "empty" }, "Which bucket? Its keys are listed in the order in which S3 lists them."));
      return;
    }
    result.replaceChildren(el("p", { class: "empty" }, "Looking…"));
    const begun = performance.now();
    let found;
    try {
      found = await look();
    } catch (error) {
      result.replaceChildren();
      throw error;
    }
    if (!shown()) return;
    const took = Math.round(performance.now() - begun);
    const pager = el("div", { class: "pager" },
      wanted.after ? el("a", { class: "button quiet", href: place({ after: null }) }, "First page") : null,
      wanted.after ? el("button", { type: "button", class: "quiet", onclick: () => history.back() }, "Previous page") : null,
      found.next
        ? el("button", { type: "button", class: "quiet", onclick: () => go(place({ after: found.next })) }, found.rows.length < PAGE ? "Search on" : "Next page")
        : el("span", { class: "soft" }, "last page"));
    result.replaceChildren(
      found.rows.length === 0 ? el("p", { class: "empty" }, nothing(wanted, found)) : list(wanted, found, took),
      found.rows.length > 0 || wanted.after || found.next ? pager : "");
  };
}

function nothing(wanted, { next, lookedAt }) {
  if (next) return `Nothing found among ${number(lookedAt)} keys; there are more.`;
  if (wanted.after) return "That was all.";
  if (wanted.prefix || wanted.contains) return "No key of this bucket is like that.";
  return wanted.pending === "true" ? "The mirror has everything of this bucket." : "The inventory has no key of this bucket.";
}

function list(wanted, { rows, lookedAt }, took) {
  const searched = lookedAt > 10 * PAGE ? `, ${number(lookedAt)} looked at` : "";
  return table(`${number(rows.length)} keys in ${number(took)} ms${searched}`, [
    { title: "Key", kind: "long", cell: (row) => el("a", { class: "key", href: `#/explain${query({ bucket: wanted.bucket, key: row.key })}` }, visible(row.key)) },
    { title: "Size", kind: "number", cell: (row) => bytes(row.size) },
    { title: "Type", cell: (row) => row.content_type },
    { title: "Modified", kind: "tight", cell: (row) => moment(row.last_modified) },
    { title: "State", kind: "tight", cell: state },
  ], rows);
}

function state(row) {
  return [
    row.deleted ? [el("span", { class: "badge" }, "deleted"), " "] : [],
    row.is_backed_up ? el("span", { class: "badge good" }, "mirrored") : el("span", { class: "badge warn" }, "not mirrored"),
  ].flat();
}
