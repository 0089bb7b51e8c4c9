// How it stands: the verdict, figures, who can be reached, the last hours.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { el, field, live } from "./dom.js";
import { STATES, bytes, count, duration, moment, number, rate } from "./words.js";

export const title = "Overview";
export const period = 5000;

const RANGES = [[15, "15 minutes"], [60, "1 hour"], [360, "6 hours"]];
const HEADLINES = {
  in_step: "The mirror is in step with main",
  behind: "The mirror is behind",
  parked: "Something will not arrive by itself",
  stopped: "Something is stopped",
  failing: "The service is not well",
};

export function open(area, { change, ask, again }) {
  const verdict = live(area.appendChild(el("div", {})));
  const tiles = live(area.appendChild(el("div", {})));
  const peers = live(area.appendChild(el("div", {})));
  const select = el("select", { id: "range", onchange: () => { picked = true; draw(); } },
    RANGES.map(([minutes, text]) => el("option", { value: minutes, selected: minutes === 60 }, text)));
  const perSecond = (name) => (point) => point.rates[name];
  const charts = [
    chart("Keys waiting for the mirror", [{ name: "keys", of: (point) => point.pending_operations }], number),
    chart("Oldest waiting change", [{ name: "age", of: (point) => point.oldest_pending_seconds }], duration),
    chart("Per second", [{ name: "requests", of: perSecond("requests") }, { name: "keys mirrored", of: perSecond("mirrored") }], rate),
    chart("Bytes mirrored per second", [{ name: "bytes", of: perSecond("mirrored_bytes") }], bytes, 1024),
    chart("Errors per second", [{ name: "failed requests", of: perSecond("failed_requests") }, { name: "failed tries", of: perSecond("errors") }], rate),
    chart("Rows waiting for the inventory", [{ name: "rows", of: (point) => point.pending_rows }], number),
  ];
  area.append(el("div", { class: "toolbar" }, el("h2", {}, "The last hours"), field("Show", select)),
    el("div", { class: "charts" }, charts.map((each) => each.figure)));
  let samples = [];
  let picked = false;

  function draw() {
    const end = Date.now();
    const begin = end - Number(select.value) * 60000;
    const points = samples.map(rated).filter((point) => point.at_ms >= begin);
    for (const each of charts) each.draw(points, [begin, end]);
  }

  const pause = async () => {
    const input = el("input", { id: "reason", maxlength: 200 });
    const yes = await ask({
      title: "Pause mirroring?",
      body: [el("p", {}, "Clients notice nothing. Changes wait in the journal, also over a restart, until you resume."), field("Why (whoever looks will see it)", input)],
      yes: "Pause",
    });
    if (yes && await change("pause", { reason: input.value }, () => "Mirroring is paused.")) again();
  };
  const resume = async () => { if (await change("resume", {}, () => "Mirroring goes on.")) again(); };
  const release = async (brake) => {
    const yes = await ask({
      title: `Release the deletes of ${brake.bucket}?`,
      body: el("p", {}, `${brake.reason}. Released, they are made on the mirror and cannot be taken back.`),
      yes: "Release", danger: true,
    });
    if (yes && await change("release", { bucket: brake.bucket }, () => `The deletes of ${brake.bucket} go to the mirror.`)) again();
  };

  return async () => {
    const [status, health, history] = await Promise.all([get("status"), get("health"), get("history")]);
    const { mirror, inventory, events, pace } = status;
    verdict([health.state, health.findings, mirror.paused, mirror.brakes], () => {
      const [, kind] = STATES[health.state];
      return el("section", { class: `card verdict is-${kind}` },
        el("div", { class: "head" }, el("h1", {}, HEADLINES[health.state]),
          el("div", { class: "actions" },
            mirror.parked + inventory.parked_rows > 0 ? el("a", { class: "button quiet", href: "#/parked", "data-mark": "parked" }, "Parked keys") : null,
            (mirror.brakes ?? []).map((brake) => el("button", { type: "button", class: "danger", "data-mark": `release-${brake.bucket}`, onclick: () => release(brake) }, `Release ${brake.bucket}`)),
            mirror.paused
              ? el("button", { type: "button", "data-mark": "pause", onclick: resume }, "Resume mirroring")
              : el("button", { type: "button", class: "quiet", "data-mark": "pause", onclick: pause }, "Pause mirroring"))),
        health.findings.length === 0 ? el("p", { class: "soft" }, "Whatever main has accepted is on the mirror, or was accepted within the last minute.") : null,
        health.findings.map((finding) => el("div", { class: "finding" },
          el("h2", {}, finding.what),
          el("dl", {}, el("dt", {}, "Why"), el("dd", {}, finding.why), el("dt", {}, "Do"), el("dd", {}, finding.todo)))));
    });
    const outlook = drain(history, mirror);
    tiles([mirror, inventory, events, pace, outlook], () => el("dl", { class: "tiles" }, [
      ["Keys waiting", number(mirror.pending_operations), [bytes(mirror.pending_bytes), outlook].filter(Boolean).join("; ")],
      ["Oldest of them", duration(mirror.oldest_pending_seconds), "what a loss of main would cost now"],
      ["Parked", number(mirror.parked + inventory.parked_rows), `${count(mirror.held_deletes, "delete")} held back`],
      inventory.enabled
        ? ["Rows waiting", number(inventory.pending_rows), "for the inventory"]
        : ["Rows waiting", "–", "the inventory is switched off"],
      events.enabled ? ["Events waiting", number(events.pending), told(events)] : ["Events waiting", "–", "no webhook is set"],
      ["Requests", `${rate(pace.requests)}/s`, `${rate(pace.failed_requests)}/s failed`],
      ["Mirrored", `${rate(pace.mirrored)}/s`, `${bytes(pace.mirrored_bytes)}/s; ${rate(pace.mirror_errors)}/s failed tries`],
    ].map(([name, value, more]) => el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, el("small", {}, more))))));
    const reached = ["main", "mirror", "database"].map((name) => [name, health[name]]).filter(([, reach]) => reach);
    const room = status.disk ? `${bytes(status.disk.free_bytes)} of ${bytes(status.disk.size_bytes)} free` : "DATA_DIR";
    reached.push(["journal", { address: room, reachable: !status.journal.failing, error: "cannot be written" }]);
    if (events.enabled) reached.push(["webhook", { address: events.error ? "" : events.last_delivered_ms ? `took events ${moment(events.last_delivered_ms)}` : "nothing has been sent yet", reachable: !events.error, error: events.error }]);
    peers(reached.map(([name, reach]) => [name, reach.reachable, reach.error, reach.address]), () => el("section", { class: "card" },
      el("h2", {}, "Who can be reached"),
      el("ul", { class: "peers" }, reached.map(([name, reach]) => el("li", {},
        el("span", { class: `badge ${reach.reachable ? "good" : "bad"}` }, reach.reachable ? "ok" : "away"),
        el("span", {}, el("span", { class: "who" }, name), " ",
          el("span", { class: "how" }, [reach.address, reach.reachable ? "" : reach.error].filter(Boolean).join(": ")))))),
      el("p", { class: "soft" }, `s3-mirror ${status.version}, running since ${moment(status.started_ms)}`)));
    samples = history;
    // A service that has just started has nothing to show of an hour.
    if (!picked && samples.length > 0) select.value = Date.now() - samples[0].at_ms < 15 * 60000 ? 15 : 60;
    draw();
  };
}

/** What there is to say of the webhook beside the number that waits. */
function told(events) {
  return [
    events.refused > 0 ? [el("a", { href: "#/events", "data-mark": "events" }, `${number(events.refused)} refused`), "; "] : null,
    events.pending > 0 ? `the oldest for ${duration(events.oldest_pending_seconds)}; ` : null,
    events.last_delivered_ms ? `last delivered ${moment(events.last_delivered_ms)}` : "none delivered since the start",
  ];
}

/** Where the backlog is heading, by the samples of the last two minutes; nothing where it is small. */
function drain(history, mirror) {
  const now = history.at(-1);
  const then = now && history.find((sample) => sample.at_ms >= now.at_ms - 120000);
  const seconds = then ? (now.at_ms - then.at_ms) / 1000 : 0;
  if (mirror.paused || seconds < 20 || mirror.pending_operations < 100) return "";
  const less = (then.pending_operations - now.pending_operations) / seconds;
  if (less > 0.05) return `at this pace done in ${duration(mirror.pending_operations / less)}`;
  return less < -0.05 ? `growing by ${rate(-less)}/s` : "not getting less";
}

/** A sample with averages since the one before. A restart begins its counters anew. */
function rated(sample, at, all) {
  const before = all[at - 1];
  const seconds = before ? (sample.at_ms - before.at_ms) / 1000 : 0;
  const of = (name) => (seconds > 0 ? Math.max(0, sample[name] - before[name]) / seconds : 0);
  return {
    ...sample,
    rates: {
      requests: of("requests"), failed_requests: of("failed_requests"), mirrored: of("mirrored"),
      mirrored_bytes: of("mirrored_bytes"), errors: of("mirror_errors") + of("database_errors"),
    },
  };
}
