// Figures and names as a person reads them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const rate = (value) => (value >= 100 ? whole : fine).format(value ?? 0);

/** `1 key`, `2 keys`. */
export const count = (value, one, more = `${one}s`) => `${number(value)} ${value === 1 ? one : more}`;

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let amount = value;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(amount) < 1024) return `${(unit === "B" || amount >= 100 ? whole : fine).format(amount)} ${unit}`;
    amount /= 1024;
  }
  return `${fine.format(amount)} PiB`;
}

export function duration(seconds) {
  if (seconds < 0.05) return "0 s";
  if (seconds < 10) return `${fine.format(seconds)} s`;
  if (seconds < 120) return `${whole.format(seconds)} s`;
  if (seconds < 7200) return `${whole.format(seconds / 60)} min`;
  if (seconds < 172800) return `${fine.format(seconds / 3600)} h`;
  return `${fine.format(seconds / 86400)} days`;
}

const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** A moment in the reader's own time zone, from milliseconds or ISO text. */
export function moment(value) {
  if (value === null || value === undefined || value === "") return "–";
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? String(value) : moments.format(date);
}

const clocks = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
export const clock = (ms) => clocks.format(new Date(ms));

/** A name with what cannot be seen written out: two keys that differ must not look the same. */
export function visible(name) {
  // Control characters, and those that turn the direction of text around.
  return name.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
}

export const STATES = {
  in_step: ["In step", "good"],
  behind: ["Behind", "bad"],
  parked: ["Parked", "warn"],
  stopped: ["Stopped", "warn"],
  failing: ["Failing", "bad"],
};
