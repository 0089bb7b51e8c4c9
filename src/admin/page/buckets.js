// Buckets: what they hold, what waits.

import { get, query } from "./api.js";
import { el, live, table } from "./dom.js";
import { bytes, moment, number, visible } from "./words.js";

export const title = "Buckets";
export const period = 10000;

export function open(area) {
  area.append(el("h1", {}, title));
  const show = live(area.appendChild(el("div", { class: "card" })));
  return async () => {
    const answer = await get("buckets");
    show(answer, () => [
      answer.error ? el("p", { class: "error" }, `The inventory was not counted: ${answer.error}`) : null,
      answer.buckets.length === 0
        ? el("p", { class: "empty" }, "No bucket has been written through this proxy yet.")
        : table(answer.counted_ms ? `Objects and bytes by the inventory, counted ${moment(answer.counted_ms)}` : "Objects and bytes are not counted", [
          { title: "Bucket", kind: "long", cell: (row) => el("a", { class: "key", href: `#/inventory${query({ bucket: row.bucket })}` }, visible(row.bucket)) },
          { title: "Objects", kind: "number", cell: (row) => number(row.objects) },
          { title: "Size", kind: "number", cell: (row) => bytes(row.bytes) },
          { title: "Waiting", kind: "number", cell: (row) => number(row.pending_operations) },
          { title: "Deletes held", kind: "number", cell: (row) => number(row.held_deletes ?? 0) },
          { title: "Parked", kind: "number", cell: (row) => (row.parked ? el("a", { href: `#/parked${query({ bucket: row.bucket })}` }, number(row.parked)) : "0") },
          { title: "Last change", kind: "tight", cell: (row) => moment(row.last_change_ms ?? row.row_written) },
        ], answer.buckets),
    ].filter(Boolean));
  };
}
