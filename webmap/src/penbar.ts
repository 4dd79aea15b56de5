// The tools of the pen: a second bar above the map, and what it says while a shape is drawn.

import type { DrawClass, DrawData, Tool } from "./types";

const TITLES: Record<Tool, string> = {
  brush: "Brush", lasso: "Lasso", polygon: "Polygon", rectangle: "Rectangle",
};
const HOW: Record<Tool, string> = {
  brush: "Drag to paint; Enter puts a dot in the middle, comma and full stop set the width",
  lasso: "Drag around an area; with keys: Enter sets a corner in the middle, c closes",
  polygon: "Click corners; a double click, the first corner or c closes; Enter sets one in the middle",
  rectangle: "Drag from corner to corner; Enter sets a corner in the middle",
};

interface Presses {
  tool: (tool: Tool | null) => void;
  choose: (value: number) => void;
  widen: (by: number) => void;
  act: (name: string) => void;
}

export class PenBar {
  static readonly KEYS: Record<Tool, string> = {
    brush: "b", lasso: "a", polygon: "g", rectangle: "r",
  };
  readonly element = document.createElement("div");
  private readonly buttons = document.createElement("div");
  private readonly said = document.createElement("div");
  private drawn = "";

  constructor(private readonly presses: Presses) {
    this.element.className = "pen";
    this.element.hidden = true;
    this.buttons.className = "bar";
    this.buttons.setAttribute("role", "toolbar");
    this.buttons.setAttribute("aria-label", "Drawing");
    this.said.className = "said";
    this.said.setAttribute("aria-live", "polite");
    this.element.append(this.buttons, this.said);
  }

  show(
    draw: DrawData | null, tool: Tool | null, chosen: DrawClass | null, corners: number, width: number,
  ): void {
    this.element.hidden = !draw;
    if (!draw) return;
    this.build(draw);
    for (const button of this.buttons.querySelectorAll<HTMLButtonElement>("button[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === (tool ?? "move")));
    }
    for (const button of this.buttons.querySelectorAll<HTMLButtonElement>("button[data-value]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.value) === chosen?.value));
    }
    const output = this.buttons.querySelector("output");
    if (output) output.value = `${width} px`;
    const begun = corners && tool && tool !== "brush" ? `${corners} corners. ` : "";
    const text = tool ? `${begun}${HOW[tool]}; Esc ends.` : "";
    if (this.said.textContent !== text) this.said.textContent = text;
  }

  /** Makes the buttons, where they are others than before. */
  private build(draw: DrawData): void {
    const text = JSON.stringify([draw.tools, draw.classes, draw.actions]);
    if (text === this.drawn) return;
    this.drawn = text;
    const parts: HTMLElement[] = [];
    for (const tool of draw.tools) {
      parts.push(
        this.button(TITLES[tool], PenBar.KEYS[tool], { tool }, () => this.presses.tool(tool)),
      );
    }
    parts.push(this.button("Move", "v", { tool: "move" }, () => this.presses.tool(null)));
    if (draw.tools.includes("brush")) parts.push(...this.widths());
    for (const item of draw.classes) {
      const button = this.button(item.title, item.key, { value: String(item.value) }, () =>
        this.presses.choose(item.value),
      );
      const swatch = document.createElement("i");
      swatch.style.background = `#${item.color}`;
      button.prepend(swatch);
      parts.push(button);
    }
    for (const action of draw.actions) {
      parts.push(
        this.button(action.title, action.key, { action: action.name }, () =>
          this.presses.act(action.name),
        ),
      );
    }
    this.buttons.replaceChildren(...parts);
  }

  private widths(): HTMLElement[] {
    const less = this.button("−", ",", {}, () => this.presses.widen(-1));
    const more = this.button("+", ".", {}, () => this.presses.widen(1));
    less.setAttribute("aria-label", "Narrower brush");
    more.setAttribute("aria-label", "Wider brush");
    const output = document.createElement("output");
    output.setAttribute("aria-label", "Width of the brush");
    return [less, output, more];
  }

  private button(
    text: string, key: string, data: Record<string, string>, press: () => void,
  ): HTMLButtonElement {
    const button = document.createElement("button");
    button.type = "button";
    button.title = `${text} (${key})`;
    Object.assign(button.dataset, data);
    const hint = document.createElement("kbd");
    hint.textContent = key;
    button.append(text, hint);
    button.onclick = press;
    return button;
  }
}
