// Events that the receiver refuses one by one, and what to do with them.

import { get, query } from "./api.js";
import { inPieces } from "./bulk.js";
import { el, table } from "./dom.js";
import { count, moment, number, visible } from "./words.js";

export const title = "Refused events";
/** Found from the overview, where there are any. */
export const apart = true;

export function open(area, { values, change, ask, say, go, again }) {
  const result = el("div", { class: "card" });
  area.append(el("h1", {}, "Refused events"),
    el("p", { class: "soft" }, "The receiver refuses these by themselves. They are sent again by and by, and later events of the same keys wait behind them; all others go on. Mend the receiver and send them again now, or give them up."), result);

  const done = (word) => (sum) => say(`${sum.entries === 1 ? "One event is" : `${count(sum.entries, "event")} are`} ${word}.`);

  async function retry(selection) {
    await inPieces(change, "events/retry", [selection], done("sent again"));
    again();
  }

  async function discard(selection, what) {
    const yes = await ask({
      title: `Give up ${what}?`,
      body: el("p", {}, "The receiver is never told of them. The log names each. Main, mirror and inventory are not touched."),
      yes: "Give up", danger: true,
    });
    if (!yes) return;
    await inPieces(change, "events/discard", [selection], done("given up"));
    again();
  }

  return async () => {
    const [answer, status] = await Promise.all([get("events", { limit: 100, after: values.get("after") }), get("status")]);
    if (answer.events.length === 0) {
      result.replaceChildren(el("p", { class: "empty" }, values.get("after") ? "That was all." : "No event is refused."));
      return;
    }
    const { refused } = status.events;
    const one = (event) => ({ bucket: event.bucket, key: event.key });
    result.replaceChildren(
      el("div", { class: "toolbar" },
        el("button", { type: "button", onclick: () => retry({ all: true }) }, "Send all again"),
        el("button", { type: "button", class: "danger", onclick: () => discard({ all: true }, refused === 1 ? "the one event that is refused" : `all ${count(refused, "event")} that are refused`) }, "Give all up")),
      table("The oldest first", [
        { title: "Key", kind: "long", cell: (event) => [el("a", { class: "key", href: `#/explain${query(one(event))}` }, `${visible(event.bucket)}/${visible(event.key)}`), el("div", { class: "reason" }, event.reason)] },
        { title: "Event", cell: (event) => event.event },
        { title: "Tries", kind: "number", cell: (event) => number(event.attempts) },
        { title: "Accepted", kind: "tight", cell: (event) => moment(event.accepted_ms) },
        { title: "Sent again", kind: "tight", cell: (event) => moment(event.next_try_ms) },
        { title: "Actions", kind: "tight", cell: (event) => [
          el("button", { type: "button", class: "quiet", "aria-label": `Send again: ${visible(event.key)}`, onclick: () => retry(one(event)) }, "Send again"), " ",
          el("button", { type: "button", class: "danger", "aria-label": `Give up: ${visible(event.key)}`, onclick: () => discard(one(event), `the refused events of ${visible(event.bucket)}/${visible(event.key)}`) }, "Give up")] },
      ], answer.events),
      el("div", { class: "pager" },
        values.get("after") ? el("button", { type: "button", class: "quiet", onclick: () => history.back() }, "Previous page") : null,
        answer.next
          ? el("button", { type: "button", class: "quiet", onclick: () => go(`#/events${query({ after: answer.next })}`) }, "Next page")
          : el("span", { class: "soft" }, "last page")));
  };
}
