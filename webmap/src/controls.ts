// The bar above the map, the list of layers beside it, and the legend.

import { PANELS } from "./state";
import type { Entry, LayerData, Layout, MapData, State } from "./types";

export const KEYS: [string, string][] = [
  ["arrows, + and -", "move, zoom"],
  ["Enter", "look at the middle"],
  ["f", "fit"],
  ["s", "swipe on and off"],
  ["p", "more panels"],
  ["h", "hide clear"],
  ["o", "outlines only"],
  ["1 ... 9", "a layer on and off"],
  ["[ and ]", "opacity of the topmost layer"],
  ["l", "list of layers"],
  ["e", "export as PNG"],
];
const LAYOUTS: [Layout, string][] = [
  ["1", "One panel"],
  ["swipe", "Swipe"],
  ["2", "Two panels"],
  ["3", "Three panels"],
  ["4", "Four panels"],
  ["6", "Six panels"],
];

type Attributes = Record<string, string>;

function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...content: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...content);
  return element;
}

export interface Actions {
  /** Tells that the state was changed; `lists` whether the list of layers is another now. */
  changed: (lists: boolean) => void;
  fit: () => void;
  picture: () => void;
}

export class Controls {
  readonly bar = make("div", { class: "bar", role: "toolbar", "aria-label": "Map" });
  readonly side = make("div", { class: "side" });
  readonly status = make("span", { class: "status" });
  private readonly layout = make("select", { "aria-label": "Panels", title: "Panels (s, p)" });
  private readonly toggles: [keyof State, HTMLButtonElement][] = [];
  private readonly listed = make("div", { class: "list" });
  private readonly legend = make("div", { class: "legend", role: "group", "aria-label": "Legend" });
  private readonly list: HTMLButtonElement;

  constructor(
    private data: MapData,
    private state: State,
    private readonly actions: Actions,
  ) {
    for (const [value, text] of LAYOUTS) this.layout.append(make("option", { value }, text));
    this.layout.onchange = () => {
      this.state.layout = this.layout.value as Layout;
      this.state.active = 0;
      actions.changed(true);
    };
    const fit = this.button("Fit", "Show everything (f)", () => actions.fit());
    const png = this.button("PNG", "Save the picture with legend and scale (e)", () =>
      actions.picture(),
    );
    this.list = this.button("Layers", "List of layers (l)", () => this.toggleList());
    this.list.setAttribute("aria-expanded", "true");
    this.bar.append(
      this.layout,
      fit,
      this.toggle("hideClear", "Hide clear", "Hide clear pixels (h)"),
      this.toggle("outlines", "Outlines", "Only lines between classes (o)"),
      this.toggle("coast", "Coast", "Coast lines (Natural Earth 1:50m)"),
      this.toggle("streets", "Streets", `Street map below (asks ${new URL(data.streets.url).host})`),
      png,
      this.list,
      this.help(),
      this.status,
    );
    this.side.append(this.listed, this.legend);
  }

  take(data: MapData, state: State): void {
    this.data = data;
    this.state = state;
  }

  /** Brings bar, list and legend to the state. */
  show(lists: boolean): void {
    this.layout.value = this.state.layout;
    for (const [key, button] of this.toggles) {
      button.setAttribute("aria-pressed", String(Boolean(this.state[key])));
    }
    if (lists) this.drawList();
    this.drawLegend();
  }

  toggleList(): void {
    this.side.hidden = !this.side.hidden;
    this.list.setAttribute("aria-expanded", String(!this.side.hidden));
    this.actions.changed(false);
  }

  /** Returns the layers whose classes are explained: those that are on, in any panel shown. */
  explained(): LayerData[] {
    const shown = this.state.panels.slice(0, PANELS[this.state.layout]).flat();
    const on = new Set(shown.filter((entry) => entry.on).map((entry) => entry.id));
    const seen = new Set<string>();
    return this.data.layers.filter((layer) => {
      const text = JSON.stringify(layer.classes);
      if (layer.kind !== "classes" || !on.has(layer.id) || seen.has(text)) return false;
      seen.add(text);
      return true;
    });
  }

  private button(text: string, title: string, press: () => void): HTMLButtonElement {
    const button = make("button", { type: "button", title }, text);
    button.onclick = press;
    return button;
  }

  private toggle(key: "hideClear" | "outlines" | "coast" | "streets", text: string, title: string) {
    const button = this.button(text, title, () => {
      this.state[key] = !this.state[key];
      this.actions.changed(false);
    });
    this.toggles.push([key, button]);
    return button;
  }

  private help(): HTMLElement {
    const rows = KEYS.map(([key, what]) =>
      make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, what)),
    );
    return make(
      "details",
      { class: "keys" },
      make("summary", {}, "Keys"),
      make("div", {}, "While the map has the focus:", make("table", {}, ...rows)),
    );
  }

  private drawList(): void {
    const focused = (this.listed.getRootNode() as ShadowRoot).activeElement?.getAttribute("name");
    const count = PANELS[this.state.layout];
    const parts: Node[] = [];
    if (count > 1) {
      const which = make("select", { "aria-label": "Panel whose layers are listed" });
      for (let at = 0; at < count; at++) {
        const side = this.state.layout === "swipe" ? ["Left", "Right"][at] : `Panel ${at + 1}`;
        which.append(make("option", { value: String(at) }, side));
      }
      which.value = String(this.state.active);
      which.onchange = () => {
        this.state.active = Number(which.value);
        this.actions.changed(true);
      };
      parts.push(which);
    }
    const panel = this.state.panels[this.state.active] ?? [];
    [...panel].reverse().forEach((entry, at) => {
      const layer = this.data.layers.find((item) => item.id === entry.id);
      if (layer) parts.push(this.drawEntry(panel, entry, layer, at));
    });
    this.listed.replaceChildren(...parts);
    if (focused) this.listed.querySelector<HTMLElement>(`[name="${CSS.escape(focused)}"]`)?.focus();
  }

  private drawEntry(panel: Entry[], entry: Entry, layer: LayerData, at: number): HTMLElement {
    const box = make("input", { type: "checkbox", name: `on ${entry.id}` });
    box.checked = entry.on;
    box.onchange = () => {
      entry.on = box.checked;
      this.actions.changed(true);
    };
    const head = make(
      "div",
      { class: "head" },
      make("label", {}, box, make("span", { class: "key" }, String(at + 1)), layer.title),
      this.mover(panel, entry, layer, 1),
      this.mover(panel, entry, layer, -1),
    );
    const item = make("div", { class: "entry", "data-layer": entry.id }, head);
    if (!entry.on) return item;
    if (layer.live) {
      item.append(
        make("small", {}, `Computed where you look, once the map is still; zoom ${layer.minZoom} and nearer`),
      );
    }
    item.append(
      this.range("Opacity, %", `opacity ${entry.id}`, 0, 100, entry.opacity * 100, (value) => {
        entry.opacity = value / 100;
      }, layer.title),
    );
    if (layer.kind === "image") item.append(...this.drawImage(entry, layer));
    return item;
  }

  private mover(panel: Entry[], entry: Entry, layer: LayerData, by: 1 | -1): HTMLButtonElement {
    const word = by > 0 ? "up" : "down";
    const next = panel.indexOf(entry) + by;
    const last = next < 0 || next >= panel.length;
    const button = this.button(by > 0 ? "↑" : "↓", `${layer.title} ${word}`, () => {
      if (last) return;
      const at = panel.indexOf(entry);
      panel.splice(at, 1);
      panel.splice(at + by, 0, entry);
      this.actions.changed(true);
    });
    button.setAttribute("aria-label", `Move ${layer.title} ${word}`);
    button.setAttribute("name", `${word} ${entry.id}`);
    // Not `disabled`: that would take the focus from who moves a layer to the end by keyboard.
    button.setAttribute("aria-disabled", String(last));
    return button;
  }

  private drawImage(entry: Entry, layer: LayerData): HTMLElement[] {
    const composites = layer.composites ?? [];
    const named = composites.findIndex((item) => String(item.bands) === String(entry.bands));
    const bands = make("select", { "aria-label": `Bands of ${layer.title}`, name: "composite" });
    composites.forEach((item, at) => bands.append(make("option", { value: String(at) }, item.title)));
    bands.append(make("option", { value: "-1" }, "Bands of my choice"));
    bands.value = String(named);
    bands.onchange = () => {
      const chosen = composites[Number(bands.value)];
      // A free choice begins with the bands there are, in an order that is no composite's.
      entry.bands = chosen ? [...chosen.bands] : [...(entry.bands ?? [1, 1, 1])].reverse();
      this.actions.changed(true);
    };
    const channels = ["Red", "Green", "Blue"].map((channel, at) => {
      const select = make("select", { "aria-label": `Band shown ${channel.toLowerCase()}`,
        name: channel, class: channel.toLowerCase() });
      for (const band of layer.bands ?? []) {
        select.append(make("option", { value: String(band.index) }, band.title));
      }
      select.value = String(entry.bands?.[at]);
      select.onchange = () => {
        entry.bands = (entry.bands ?? [1, 1, 1]).map((old, place) =>
          place === at ? Number(select.value) : old,
        );
        this.actions.changed(true);
      };
      return select;
    });
    const all = this.state.panels.flat().filter((other) => other.id === entry.id);
    const ends = ([["Dark", "low"], ["Bright", "high"]] as const).map(([text, key]) =>
      this.range(text, key, 0, 255, entry[key] ?? 0, (value) => {
        for (const other of all) other[key] = value;
      }, layer.title),
    );
    return [bands, make("div", { class: "channels" }, ...channels), ...ends];
  }

  private range(
    text: string, name: string, min: number, max: number, value: number,
    take: (value: number) => void, of: string,
  ): HTMLElement {
    const input = make("input", {
      type: "range", name, min: String(min), max: String(max), "aria-label": `${text} of ${of}`,
    });
    const output = make("output", {}, String(Math.round(value)));
    input.value = String(value);
    input.oninput = () => {
      output.value = input.value;
      take(Number(input.value));
      this.actions.changed(false);
    };
    return make("label", { class: "range" }, make("span", {}, text), input, output);
  }

  private drawLegend(): void {
    const parts = this.explained().map((layer) => {
      const items = (layer.classes ?? []).map((item) =>
        make(
          "li",
          { class: this.state.hideClear && item.clear ? "hidden" : "" },
          make("i", { style: `background:#${item.color}` }),
          item.title,
        ),
      );
      return make("ul", { "aria-label": layer.title }, ...items);
    });
    this.legend.replaceChildren(...parts);
  }
}
