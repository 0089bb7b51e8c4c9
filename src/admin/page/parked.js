// Keys that a permanent error has stopped, and what to do with them.

import { get, query } from "./api.js";
import { el, field, table } from "./dom.js";
import { bytes, moment, number, visible } from "./words.js";

export const title = "Parked";

export function open(area, { values, change, ask, again }) {
  const bucket = el("input", { id: "bucket", value: values.get("bucket") ?? "", autocomplete: "off", spellcheck: "false", placeholder: "all" });
  const result = el("div", { class: "card" });
  const chosen = new Map();
  const only = values.get("bucket") || undefined;
  const scope = only ? `of ${only}` : "of all buckets";
  const bulk = only ? { bucket: only } : { all: true };
  area.append(el("h1", {}, "Parked keys"),
    el("p", { class: "soft" }, "A permanent error stopped them. Everything else goes on. Mend the cause and try again, or give them up."),
    el("form", { class: "toolbar", role: "search", onsubmit: (event) => { event.preventDefault(); location.hash = `#/parked${query({ bucket: bucket.value })}`; } },
      field("Bucket", bucket), el("button", { type: "submit", class: "quiet" }, "Show")), result);

  const retried = (answer) => `${number(answer.entries)} changes are tried again.`;
  const givenUp = (answer) => `${number(answer.entries)} changes were given up${answer.left ? `; ${number(answer.left)} were left, because their row is still to be written` : ""}.`;

  async function retry(selections) {
    for (const selection of selections) {
      if (!await change("parked/retry", selection, retried)) break;
    }
    again();
  }
  async function discard(selections, what, keys) {
    const yes = await ask({
      title: `Give up ${what}?`,
      body: [el("p", {}, "The mirror stays without these changes until the keys are written anew, or until a verification repairs them. The log names each."),
        keys ? el("ul", {}, keys.map((key) => el("li", { class: "key" }, visible(key)))) : ""],
      yes: "Give up", danger: true,
    });
    if (!yes) return;
    for (const selection of selections) {
      if (!await change("parked/discard", selection, givenUp)) break;
    }
    again();
  }

  return async () => {
    const answer = await get("parked", {
      bucket: only, limit: 100,
      after_bucket: values.get("after_bucket"), after_key: values.get("after_key"), after_sequence: values.get("after_sequence"),
    });
    chosen.clear();
    if (answer.parked.length === 0) {
      result.replaceChildren(el("p", { class: "empty" }, `Nothing is parked ${scope}.`));
      return;
    }
    const some = [
      el("button", { type: "button", class: "quiet", disabled: true, onclick: () => retry([...chosen.values()]) }, "Try chosen again"),
      el("button", { type: "button", class: "danger", disabled: true, onclick: () => discard([...chosen.values()], `${chosen.size} keys`, [...chosen.keys()]) }, "Give chosen up"),
    ];
    const boxes = [];
    const choose = (entry, box) => {
      const name = `${entry.bucket}/${entry.key}`;
      if (box.checked) chosen.set(name, { bucket: entry.bucket, key: entry.key });
      else chosen.delete(name);
      for (const button of some) button.disabled = chosen.size === 0;
    };
    const all = el("input", { type: "checkbox", "aria-label": "Choose all on this page", onchange: () => boxes.forEach(([box, entry]) => { box.checked = all.checked; choose(entry, box); }) });
    const box = (entry) => {
      const input = el("input", { type: "checkbox", "aria-label": `Choose ${visible(entry.bucket)}/${visible(entry.key)}`, onchange: () => choose(entry, input) });
      boxes.push([input, entry]);
      return input;
    };
    const one = (entry) => ({ bucket: entry.bucket, key: entry.key });
    result.replaceChildren(
      el("div", { class: "toolbar" }, some,
        el("button", { type: "button", onclick: () => retry([bulk]) }, only ? `Try all of ${only} again` : "Try all again"),
        el("button", { type: "button", class: "danger", onclick: () => discard([bulk], `everything parked ${scope}`) }, only ? `Give all of ${only} up` : "Give all up")),
      table("In the order of bucket and key", [
        { title: all, cell: box },
        { title: "Key", cell: (entry) => [el("a", { class: "key", href: `#/explain${query(one(entry))}` }, `${visible(entry.bucket)}/${visible(entry.key)}`), el("div", { class: "reason" }, entry.reason)] },
        { title: "What", cell: (entry) => `${entry.mirror ? "copy" : ""}${entry.mirror && entry.inventory ? " and " : ""}${entry.inventory ? "row" : ""} of a ${entry.change}` },
        { title: "Size", kind: "number", cell: (entry) => bytes(entry.bytes) },
        { title: "Tries", kind: "number", cell: (entry) => number(entry.attempts) },
        { title: "Since", kind: "tight", cell: (entry) => moment(entry.parked_ms ?? entry.accepted_ms) },
        { title: "Actions", kind: "tight", cell: (entry) => [
          el("button", { type: "button", class: "quiet", "aria-label": `Try again: ${visible(entry.key)}`, onclick: () => retry([one(entry)]) }, "Try again"), " ",
          el("button", { type: "button", class: "danger", "aria-label": `Give up: ${visible(entry.key)}`, onclick: () => discard([one(entry)], "this key", [`${entry.bucket}/${entry.key}`]) }, "Give up")] },
      ], answer.parked),
      el("div", { class: "pager" },
        values.get("after_sequence") ? el("button", { type: "button", class: "quiet", onclick: () => history.back() }, "Previous page") : null,
        answer.next
          ? el("button", { type: "button", class: "quiet", onclick: () => { location.hash = `#/parked${query({ bucket: only, after_bucket: answer.next.bucket, after_key: answer.next.key, after_sequence: answer.next.sequence })}`; } }, "Next page")
          : el("span", { class: "soft" }, "last page")));
  };
}
