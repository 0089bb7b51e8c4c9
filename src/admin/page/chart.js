// Line charts over time: one or two series, a scale from zero, the value under the pointer.

import { el, svg } from "./dom.js";
import { clock } from "./words.js";

const HEIGHT = 170;
const [LEFT, RIGHT, TOP, BOTTOM] = [58, 10, 8, 22];
/** Samples further apart than this have a gap between them: the service was not running. */
const GAP_MS = 120000;

/** Round steps, whose halves are round too: the smallest of 1, 2, 4, 6 times a power of `base` that is not below. */
function ceiling(value, base) {
  if (value <= 0) return 1;
  const power = base ** Math.floor(Math.log(value) / Math.log(base) + 1e-9);
  const steps = base === 10 ? [1, 2, 4, 6] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
  return [...steps, base].map((step) => step * power).find((step) => step >= value) ?? base * power;
}

/**
 * A chart that is made once and drawn again with new points. `series` is a list of {name, of(point)};
 * `format` turns a value into text; `base` is 1024 for bytes. A point has `at_ms`.
 */
export function chart(title, series, format, base = 10) {
  const now = el("span", { class: "now" });
  const names = series.length > 1
    ? el("span", { class: "legend" }, series.map((each, at) => [el("i", { class: at ? "second" : "" }), each.name]))
    : null;
  const picture = svg("svg", { class: "chart", role: "img", height: HEIGHT });
  const figure = el("figure", { class: "card" }, el("figcaption", {}, el("h3", {}, title, names), now), picture);
  let points = [];
  let range = [0, 1];
  let high = 1;
  // In pixels, so that letters are as large on a telephone as elsewhere.
  let width = 560;

  const x = (ms) => LEFT + ((ms - range[0]) / (range[1] - range[0])) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / high) * (HEIGHT - TOP - BOTTOM);
  const values = (point) => series.map((each) => format(each.of(point))).join(" · ");

  function draw(newPoints, newRange) {
    [points, range] = [newPoints, newRange];
    width = Math.max(240, picture.clientWidth || width);
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const most = Math.max(0, ...points.flatMap((point) => series.map((each) => each.of(point))));
    high = ceiling(most, base);
    const parts = [0, 0.5, 1].flatMap((share) => {
      const at = y(high * share);
      const text = format(high * share);
      const told = share !== 0.5 || ![0, high].some((value) => format(value) === text);
      return [svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
        told ? svg("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, text) : null];
    });
    for (const share of width < 400 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
      const ms = range[0] + (range[1] - range[0]) * share;
      const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
      parts.push(svg("text", { x: x(ms), y: HEIGHT - 5, "text-anchor": anchor }, clock(ms)));
    }
    series.forEach((each, number) => {
      let line = "";
      let area = "";
      let begun = null;
      points.forEach((point, at) => {
        const apart = at > 0 && point.at_ms - points[at - 1].at_ms > GAP_MS;
        const spot = `${x(point.at_ms).toFixed(1)} ${y(each.of(point)).toFixed(1)}`;
        if (at === 0 || apart) {
          if (begun !== null) area += `L${x(points[at - 1].at_ms).toFixed(1)} ${y(0)}L${begun} ${y(0)}Z`;
          begun = x(point.at_ms).toFixed(1);
          line += `M${spot}`;
          area += `M${spot}`;
        } else {
          line += `L${spot}`;
          area += `L${spot}`;
        }
      });
      if (begun !== null) area += `L${x(points.at(-1).at_ms).toFixed(1)} ${y(0)}L${begun} ${y(0)}Z`;
      if (series.length === 1) parts.push(svg("path", { class: "area", d: area }));
      parts.push(svg("path", { class: number ? "line second" : "line", d: line }));
    });
    const last = points.at(-1);
    if (last) {
      series.forEach((each, number) => parts.push(svg("circle", { class: number ? "spot second" : "spot", r: 3, cx: x(last.at_ms), cy: y(each.of(last)) })));
    }
    picture.replaceChildren(...parts.filter(Boolean));
    now.textContent = last ? values(last) : "no samples yet";
    picture.setAttribute("aria-label", last ? `${title}: now ${values(last)}, at most ${format(most)}` : `${title}: no samples yet`);
  }

  new ResizeObserver(() => draw(points, range)).observe(figure);
  figure.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const ms = range[0] + ((((event.clientX - box.left) / box.width) * width - LEFT) / (width - LEFT - RIGHT)) * (range[1] - range[0]);
    const near = points.reduce((best, point) => (!best || Math.abs(point.at_ms - ms) < Math.abs(best.at_ms - ms) ? point : best), null);
    picture.querySelector(".cursor")?.remove();
    if (!near) return;
    picture.append(svg("line", { class: "cursor", x1: x(near.at_ms), x2: x(near.at_ms), y1: TOP, y2: HEIGHT - BOTTOM }));
    now.textContent = `${clock(near.at_ms)}: ${values(near)}`;
  });
  figure.addEventListener("pointerleave", () => draw(points, range));
  return { figure, draw };
}
