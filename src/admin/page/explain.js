// Everything that is known of one key.

import { get, query } from "./api.js";
import { el, field, pairs, table } from "./dom.js";
import { bytes, moment, number, visible } from "./words.js";

export const title = "Explain";

export function open(area, { values, change, go, again }) {
  const bucket = el("input", { id: "bucket", required: true, value: values.get("bucket") ?? "", autocomplete: "off", spellcheck: "false" });
  const key = el("input", { id: "key", required: true, value: values.get("key") ?? "", autocomplete: "off", spellcheck: "false" });
  const result = el("div", {});
  area.append(el("h1", {}, "Explain a key"),
    el("form", { class: "toolbar", role: "search", onsubmit: (event) => {
      event.preventDefault();
      go(`#/explain${query({ bucket: bucket.value, key: key.value })}`);
    } }, field("Bucket", bucket), field("Key", key, true), el("button", { type: "submit" }, "Explain")), result);

  const compare = async () => { result.replaceChildren(...shown(await get("explain", { bucket: values.get("bucket"), key: values.get("key"), compare: true }))); };
  const retry = async () => {
    const chosen = { bucket: values.get("bucket"), key: values.get("key") };
    if (await change("parked/retry", chosen, () => "It is tried again.")) again();
  };

  function shown(told) {
    const parked = told.entries.some((entry) => entry.mirror === "parked" || entry.inventory === "parked");
    const waits = told.entries.some((entry) => entry.mirror === "retrying");
    const row = told.row.row;
    return [
      el("section", { class: "card" },
        el("h2", { class: "key" }, `${visible(told.bucket)}/${visible(told.key)}`),
        el("p", {}, told.summary),
        el("div", { class: "actions" },
          parked || waits ? el("button", { type: "button", onclick: retry }, "Try again now") : null,
          el("button", { type: "button", class: "quiet", onclick: () => compare().catch((error) => result.prepend(el("p", { class: "card error", role: "alert" }, error.message))) },
            "Ask main and mirror"))),
      told.compared ? sides(told.compared) : null,
      el("section", { class: "card" }, el("h2", {}, "Changes on their way"),
        told.entries.length === 0
          ? el("p", { class: "empty" }, "None: the journal forgets a change once it has arrived.")
          : table("The newest first", [
            { title: "Accepted", kind: "tight", cell: (entry) => moment(entry.accepted_ms) },
            { title: "Change", cell: (entry) => `${entry.change}, ${bytes(entry.bytes)}` },
            { title: "Outcome", cell: (entry) => entry.outcome },
            { title: "Mirror", cell: (entry) => el("span", { class: `badge ${entry.mirror === "parked" ? "bad" : entry.mirror === "done" ? "good" : "warn"}` }, entry.mirror) },
            { title: "Inventory", cell: (entry) => entry.inventory },
            { title: "Tries", kind: "number", cell: (entry) => number(entry.attempts) },
            { title: "Last error", kind: "long", cell: (entry) => [entry.error ? el("span", { class: "reason" }, entry.error) : "–", entry.next_try_ms ? el("div", { class: "soft" }, `next try ${moment(entry.next_try_ms)}`) : ""] },
            { title: "Request", cell: (entry) => el("code", {}, entry.request_id) },
          ], told.entries)),
      el("section", { class: "card" }, el("h2", {}, "Inventory"),
        row
          ? pairs(["Size", bytes(row.size)], ["Type", row.content_type], ["Modified", moment(row.last_modified)],
            ["State", row.deleted ? "gone from main" : "on main"], ["Mirror", row.is_backed_up ? "has confirmed it" : "has not confirmed it"],
            ["Mirrored when", when(told.mirrored_at)], ["Verified when", when(told.verified_at)],
            ["ETag", row.etag && el("code", {}, row.etag)], ["Version", row.version_id && el("code", {}, row.version_id)],
            ["Row written", moment(row.updated_at)], ["Last error", row.last_error])
          : el("p", { class: "empty" }, told.row === "no_inventory" ? "Switched off (DISABLE_DATABASE)." : told.row.unavailable ?? "There is no row for this key.")),
    ].filter(Boolean);
  }

  return async () => {
    if (!values.get("bucket")) return;
    result.replaceChildren(...shown(await get("explain", { bucket: values.get("bucket"), key: values.get("key") ?? "" })));
    if (values.get("key") === null) result.replaceChildren();
  };
}

const when = (text) => (/^\d{4}-/.test(text) ? moment(text) : text);

function sides(compared) {
  const verdict = compared.equal === null
    ? ["one side did not answer", "warn"]
    : compared.equal ? ["equal", "good"] : [`different: ${compared.differences.join(", ")}`, "bad"];
  const side = (name, state) => el("div", {}, el("h3", {}, name),
    state.state === "present"
      ? pairs(["Bucket", el("code", {}, state.bucket)], ["Size", bytes(state.size)], ["ETag", el("code", {}, state.etag)], ["Type", state.content_type],
        ["Modified", moment(state.last_modified)], ["Tags", number(state.tags)], ["Version", state.version_id])
      : pairs(["Bucket", el("code", {}, state.bucket)], ["State", state.state === "absent" ? "absent" : state.error]));
  return el("section", { class: "card" },
    el("h2", {}, "Main and mirror now ", el("span", { class: `badge ${verdict[1]}` }, verdict[0])),
    el("div", { class: "sides" }, side("Main", compared.main), side("Mirror", compared.mirror)));
}
