// Backfill and verification: started, watched and cancelled here. They run in the service.

import { ApiError, get } from "./api.js";
import { check, el, field, live, table } from "./dom.js";
import { bytes, duration, moment, number, visible } from "./words.js";

export const title = "Jobs";
export const period = 2000;

export function open(area, { change, ask, again }) {
  const kind = el("select", { id: "kind" },
    el("option", { value: "backfill" }, "backfill: bring what the mirror lacks"),
    el("option", { value: "verify" }, "verify: compare main, mirror and inventory"));
  const bucket = el("input", { id: "bucket", autocomplete: "off", spellcheck: "false", placeholder: "all" });
  const prefix = el("input", { id: "prefix", autocomplete: "off", spellcheck: "false" });
  const rate = el("input", { id: "rate", type: "number", min: 1, placeholder: "no limit" });
  const bandwidth = el("input", { id: "bandwidth", type: "number", min: 1, placeholder: "no limit" });
  const deep = el("input", { type: "checkbox" });
  const repair = el("input", { type: "checkbox", onchange: () => { extra.disabled = !repair.checked; extra.checked &&= repair.checked; } });
  const extra = el("input", { type: "checkbox", disabled: true });
  const only = el("div", { class: "toolbar", hidden: true }, check("deep: compare content, which reads every object", deep), check("repair what differs", repair), check("and remove from the mirror what main does not have", extra));
  kind.addEventListener("change", () => { only.hidden = kind.value !== "verify"; });
  const start = async (event) => {
    event.preventDefault();
    const job = { kind: kind.value };
    if (bucket.value) job.bucket = bucket.value;
    if (prefix.value) job.prefix = prefix.value;
    if (rate.value) job.rate = Number(rate.value);
    if (bandwidth.value) job.bandwidth = Math.round(Number(bandwidth.value) * 1024 * 1024);
    if (kind.value === "verify") Object.assign(job, { deep: deep.checked, repair: repair.checked, delete_extra: extra.checked });
    const refused = job.delete_extra && !await ask({
      title: "Remove from the mirror what main does not have?",
      body: el("p", {}, "Objects that are on the mirror only are deleted there, in every bucket the job looks at. Without this the report lists them."),
      yes: "Start and remove", danger: true,
    });
    if (refused) return;
    if (await change("jobs", job, () => "The job is started.")) again();
  };
  area.append(el("h1", {}, title),
    el("form", { class: "card", onsubmit: start }, el("h2", {}, "Start a job"),
      el("div", { class: "toolbar" }, field("Kind", kind), field("Bucket", bucket), field("Keys begin with", prefix, true), field("Keys per second", rate), field("MiB per second", bandwidth)),
      only, el("div", { class: "actions" }, el("button", { type: "submit" }, "Start"))));
  const show = live(area.appendChild(el("div", { class: "card" })));
  const kinds = { running: "busy", done: "good", failed: "bad", cancelled: "", interrupted: "warn" };

  return async () => {
    let jobs;
    try {
      jobs = await get("jobs");
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      show("none", () => el("p", { class: "empty" }, "This service runs no jobs."));
      return;
    }
    jobs = Array.isArray(jobs) ? jobs : jobs.jobs;
    show(jobs, () => (jobs.length === 0
      ? el("p", { class: "empty" }, "No job has run yet. A backfill brings over what was there before the proxy; a verification tells whether both sides agree.")
      : table("The newest first", [
        { title: "Job", kind: "long", cell: (job) => [`${job.kind} `, el("span", { class: "key" }, job.bucket ? `${visible(job.bucket)}/${visible(job.prefix ?? "")}` : "all buckets"), job.message ? el("div", { class: job.state === "failed" ? "reason" : "soft" }, job.message) : ""] },
        { title: "State", kind: "tight", cell: (job) => [el("span", { class: `badge ${kinds[job.state] ?? ""}` }, job.state),
          job.state === "running" && job.total ? el("progress", { max: job.total, value: Math.min(job.scanned, job.total), "aria-label": `Progress of ${job.kind} ${job.id}` }) : ""] },
        { title: "Looked at", kind: "number", cell: (job) => number(job.scanned) },
        { title: "To copy", kind: "number", cell: (job) => number(job.queued) },
        { title: "Size", kind: "number", cell: (job) => bytes(job.bytes) },
        { title: "Different", kind: "number", cell: (job) => number(job.differences) },
        { title: "Errors", kind: "number", cell: (job) => number(job.errors) },
        { title: "Begun", kind: "tight", cell: (job) => [moment(job.started_ms), el("div", { class: "soft" }, job.finished_ms ? `took ${duration((job.finished_ms - job.started_ms) / 1000)}` : job.eta_seconds ? `about ${duration(job.eta_seconds)} left` : "")] },
        { title: "Actions", cell: (job) => (job.state === "running" ? el("button", { type: "button", class: "quiet", "data-mark": `cancel-${job.id}`, "aria-label": `Cancel ${job.kind} ${job.id}`, onclick: async () => { if (await change(`jobs/${encodeURIComponent(job.id)}/cancel`, {}, () => "The job is being cancelled.")) again(); } }, "Cancel")
          : job.report ? el("a", { href: `/api/v1/jobs/${encodeURIComponent(job.id)}/report`, "aria-label": `Report of ${job.kind} ${job.id}` }, "Report") : "") },
      ], jobs)));
  };
}
