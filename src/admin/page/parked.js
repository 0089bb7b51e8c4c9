// Keys that a permanent error has stopped, and what to do with them.

import { get, query } from "./api.js";
import { inPieces } from "./bulk.js";
import { el, field, table } from "./dom.js";
import { bytes, count, moment, number, visible } from "./words.js";

export const title = "Parked";

export function open(area, { values, change, ask, say, go, again }) {
  const bucket = el("input", { id: "bucket", value: values.get("bucket") ?? "", autocomplete: "off", spellcheck: "false", placeholder: "all" });
  const result = el("div", { class: "card" });
  const why = el("div", {});
  const chosen = new Map();
  const only = values.get("bucket") || undefined;
  const scope = only ? `of ${only}` : "of all buckets";
  const bulk = only ? { bucket: only } : { all: true };
  area.append(el("h1", {}, "Parked keys"),
    el("p", { class: "soft" }, "A permanent error stopped them. Everything else goes on. Mend the cause and try again, or give them up."),
    el("form", { class: "toolbar", role: "search", onsubmit: (event) => { event.preventDefault(); go(`#/parked${query({ bucket: bucket.value })}`); } },
      field("Bucket", bucket), el("button", { type: "submit", class: "quiet" }, "Show")), why, result);

  const retried = (answer) => (answer.entries === 1 ? "One change is tried again." : `${count(answer.entries, "change")} are tried again.`);
  const givenUp = (answer) => `${answer.entries === 1 ? "One change was" : `${count(answer.entries, "change")} were`} given up${answer.left ? `; ${number(answer.left)} left as they are, because their row is still to be written` : ""}.`;

  async function each(path, selections, words) {
    await inPieces(change, path, selections, (sum) => say(words(sum)));
    again();
  }
  const retry = (selections) => each("parked/retry", selections, retried);

  async function discard(selections, what, keys) {
    const yes = await ask({
      title: `Give up ${what}?`,
      body: [el("p", {}, "The mirror stays without these changes until the keys are written anew, or until a verification repairs them. The log names each."),
        keys ? el("ul", {}, keys.map((key) => el("li", { class: "key" }, visible(key)))) : ""],
      yes: "Give up", danger: true,
    });
    if (yes) await each("parked/discard", selections, givenUp);
  }

  /** How many there are in all: what is done to all of them is asked about with their number. */
  async function discardAll() {
    const { buckets } = await get("buckets", { count: "false" });
    const all = buckets.filter((one) => !only || one.bucket === only).reduce((sum, one) => sum + one.parked, 0);
    await discard([bulk], `${all === 1 ? "the one change that is" : `all ${count(all, "change")} that are`} parked ${scope}`);
  }

  function reasons(health) {
    const why = health.reasons.filter((reason) => reason.state === "parked");
    return why.length < 2 ? "" : el("section", { class: "card" }, el("h2", {}, "The most frequent reasons"),
      el("ul", { class: "plain" }, why.map((reason) => el("li", {}, el("b", {}, count(reason.keys, "key")), ": ", reason.reason))));
  }

  return async () => {
    const answer = await get("parked", {
      bucket: only, limit: 100,
      after_bucket: values.get("after_bucket"), after_key: values.get("after_key"), after_sequence: values.get("after_sequence"),
    });
    // Beside the list, which does not wait for it: who is asked how it stands knocks at others.
    if (!only) get("health").then((health) => why.replaceChildren(reasons(health)), () => {});
    chosen.clear();
    if (answer.parked.length === 0) {
      result.replaceChildren(el("p", { class: "empty" }, values.get("after_sequence") ? "That was all." : `Nothing is parked ${scope}: whatever was accepted has arrived or is on its way.`));
      return;
    }
    const some = [
      el("button", { type: "button", class: "quiet", disabled: true, onclick: () => retry([...chosen.values()]) }, "Try chosen again"),
      el("button", { type: "button", class: "danger", disabled: true, onclick: () => discard([...chosen.values()], count(chosen.size, "key"), [...chosen.keys()]) }, "Give chosen up"),
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
        el("button", { type: "button", class: "danger", onclick: discardAll }, only ? `Give all of ${only} up` : "Give all up")),
      table("In the order of bucket and key", [
        { title: all, cell: box },
        { title: "Key", kind: "long", cell: (entry) => [el("a", { class: "key", href: `#/explain${query(one(entry))}` }, `${visible(entry.bucket)}/${visible(entry.key)}`), el("div", { class: "reason" }, entry.reason)] },
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
          ? el("button", { type: "button", class: "quiet", onclick: () => go(`#/parked${query({ bucket: only, after_bucket: answer.next.bucket, after_key: answer.next.key, after_sequence: answer.next.sequence })}`) }, "Next page")
          : el("span", { class: "soft" }, "last page")));
  };
}
