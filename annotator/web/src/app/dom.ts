/** Small hands for the page's elements. Text from people or the server enters as text only. */

/** The element of this id; the page's own HTML has it. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element #${id}`);
  return found as T;
}

type Child = Node | string;

/** A new element; attributes as HTML writes them, children as nodes or text. */
export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Readonly<Record<string, string | boolean>> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the page's own drawings, `#i-NAME`. */
export function icon(name: string): SVGElement {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("class", "icon");
  made.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  made.append(use);
  return made;
}

/** Sets text only where it differs, so that screen readers and layout hear of changes only. */
export function setText(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}
