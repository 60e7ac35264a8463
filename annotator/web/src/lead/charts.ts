/** Bars as SVG; the tables beside them say the same. */

import type { Hour, Model } from "./messages";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 960;
const HEIGHT = 170;
const LEFT = 34;
const BOTTOM = 20;
const TOP = 10;

/** Masks by hour, the newest on the right. */
export function throughputChart(hours: readonly Hour[]): SVGElement {
  const most = ceiling(Math.max(1, ...hours.map((hour) => hour.masks)));
  const total = hours.reduce((sum, hour) => sum + hour.masks, 0);
  const chart = svg("svg", {
    class: "chart",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": `Masks by hour: ${total} in ${hours.length} hours, at most ${Math.max(0, ...hours.map((hour) => hour.masks))} in one.`,
  });
  const y = (value: number): number => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  for (const value of [0, most / 2, most]) {
    chart.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }));
    chart.append(text(String(value), LEFT - 6, y(value) + 4, "end"));
  }
  const step = (WIDTH - LEFT) / Math.max(1, hours.length);
  for (const [index, hour] of hours.entries()) {
    const x = LEFT + index * step;
    const bar = svg("rect", {
      class: "items",
      x: x + step * 0.15,
      width: step * 0.7,
      y: y(hour.masks),
      height: y(0) - y(hour.masks),
      rx: 2,
    });
    const title = svg("title", {});
    title.textContent = `${clock(hour)}: ${hour.masks} masks, ${hour.items} items`;
    bar.append(title);
    chart.append(bar);
    if (index % 3 === 0) chart.append(text(clock(hour), x + step / 2, HEIGHT - 5, "middle"));
  }
  return chart;
}

/** Accepted, edited, rejected of one model as one bar. */
export function shares(model: Model): SVGElement {
  const parts = {
    accepted: model.share_accepted ?? 0,
    edited: model.share_edited ?? 0,
    rejected: model.share_rejected ?? 0,
  };
  const label = Object.entries(parts)
    .map(([name, share]) => `${Math.round(share * 100)} % ${name}`)
    .join(", ");
  const bar = svg("svg", {
    class: "shares",
    viewBox: "0 0 100 16",
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  let x = 0;
  for (const [name, share] of Object.entries(parts)) {
    if (share > 0)
      bar.append(
        svg("rect", { class: name, x, y: 1, width: Math.max(0.5, share * 100 - 0.4), height: 14 }),
      );
    x += share * 100;
  }
  return bar;
}

/** 1, 2 or 4 times a power of ten, so that half of it is a plain number as well. */
function ceiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const steps = [2, 4, 10].map((step) => step * power);
  return Math.max(
    2,
    steps.find((step) => step >= value)!,
  );
}

function clock(hour: Hour): string {
  return new Date(hour.starts_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function text(content: string, x: number, y: number, anchor: string): SVGElement {
  const made = svg("text", { x, y, "text-anchor": anchor });
  made.textContent = content;
  return made;
}

function svg(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const made = document.createElementNS(SVG, name) as SVGElement;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
