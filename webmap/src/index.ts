// The component: one map that stays while Python runs again, and tells it only of clicks.

import olStyle from "ol/ol.css";
import { Controls } from "./controls";
import { Panels } from "./panels";
import { Pen } from "./pen";
import { savePicture } from "./picture";
import { adapt, begin, PANELS, read, write } from "./state";
import { Tiles } from "./tiles";
import ownStyle from "./style.css";
import type { Component, Layout, MapData, PenEvent, State } from "./types";

const ASSETS = new URL("./", import.meta.url).href;
const SAVE_MS = 300;
const NEXT: Record<Layout, Layout> = { "1": "2", swipe: "2", "2": "3", "3": "4", "4": "6", "6": "1" };
const OPACITY_STEP = 0.1;
const DIVIDER_STEP = 0.02;

/** Tells when the page's address changes; browsers that lack it keep the state in the session. */
const navigation = () => (window as { navigation?: EventTarget }).navigation;

class CloudMap {
  private readonly root = document.createElement("div");
  private readonly stage = document.createElement("div");
  private readonly divider = document.createElement("div");
  private readonly panels: Panels;
  private readonly controls: Controls;
  private readonly pen = new Pen((events) => this.drew(events));
  private state: State;
  private tell: Component["setTriggerValue"];
  private saver = 0;
  private gone = 0;
  private clicks = 0;
  private readonly resized: ResizeObserver;

  constructor(private data: MapData, place: Component["parentElement"], tell: Component["setTriggerValue"]) {
    this.tell = tell;
    this.state = this.restore(data);
    const style = document.createElement("style");
    style.textContent = olStyle + ownStyle;
    this.root.className = "cloudmask-map";
    this.stage.className = "stage";
    this.makeDivider();
    this.controls = new Controls(data, this.state, {
      changed: (lists) => this.show(lists),
      fit: () => this.panels.fit(),
      picture: () => void this.save(),
    });
    this.panels = new Panels(
      this.stage, this.divider, data,
      (longitude, latitude) => {
        if (this.pen.active) return;
        this.clicks += 1;
        this.tell("clicked", { longitude, latitude, number: this.clicks });
      },
      (text) => { this.controls.status.textContent = text; },
      ASSETS,
    );
    const body = document.createElement("div");
    body.className = "body";
    body.append(this.stage, this.controls.side);
    this.root.append(this.controls.bar, this.pen.bar.element, body);
    place.append(style, this.root);
    this.root.addEventListener("keydown", (event) => this.press(event));
    this.resized = new ResizeObserver(() => this.panels.maps.forEach((map) => map.updateSize()));
    this.resized.observe(this.stage);
    if (this.root.clientWidth < 620) this.controls.side.hidden = true;
    this.panels.take(data);
    this.pen.update(data.draw, data.key, (events) => this.drew(events));
    this.show(true);
    this.look();
    this.panels.view.on("change", () => this.later());
    // Streamlit writes the page's address anew for each choice on it, without what stands after #.
    navigation()?.addEventListener("currententrychange", this.moved);
    // For tests, and for whoever looks at the page with the browser's tools.
    Object.assign(this.root, {
      cloudmask: {
        state: () => this.state,
        place: () => this.panels.place(),
        pending: () => Tiles.loading,
        pen: () => this.pen.state,
        pixel: (latitude: number, longitude: number, at = 0) =>
          this.panels.pixel(latitude, longitude, at),
      },
    });
  }

  /** Takes what Python says now. */
  update(data: MapData, tell: Component["setTriggerValue"]): void {
    clearTimeout(this.gone);
    this.tell = tell;
    const before = this.data;
    if (!window.location.hash) this.later();
    if (JSON.stringify(before) === JSON.stringify(data)) return;
    this.data = data;
    if (before.key !== data.key) this.state = this.restore(data);
    else this.state = adapt(this.state, data);
    this.controls.take(data, this.state);
    this.panels.take(data);
    this.pen.update(data.draw, data.key, (events) => this.drew(events));
    this.show(true);
    if (before.key !== data.key) this.look();
    if (data.go && data.go.number !== before.go?.number) this.panels.fit(data.go.bounds);
  }

  /** Streamlit may take the map away for a moment; what stays away is closed. */
  leave(): void {
    this.gone = window.setTimeout(() => {
      this.resized.disconnect();
      navigation()?.removeEventListener("currententrychange", this.moved);
      this.panels.close();
      this.root.remove();
    }, 1000);
  }

  private readonly moved = (): void => {
    if (!window.location.hash) this.later();
  };

  private restore(data: MapData): State {
    const kept = read(data.key, window.location.hash) ?? read(data.key, this.stored(data.key));
    return kept ? adapt(kept, data) : begin(data);
  }

  private stored(key: string): string | null {
    try {
      return sessionStorage.getItem(`cloudmask ${key}`);
    } catch {
      return null;
    }
  }

  private look(): void {
    if (this.state.view) this.panels.goTo(this.state.view);
    else requestAnimationFrame(() => this.panels.fit());
  }

  private show(lists: boolean): void {
    if (this.state.active >= PANELS[this.state.layout]) this.state.active = 0;
    this.panels.show(this.state);
    this.pen.attach(this.panels.maps);
    this.panels.select((at) => {
      if (this.state.layout === "swipe" || this.state.active === at) return;
      this.state.active = at;
      this.show(true);
    });
    this.controls.show(lists);
    this.root.classList.toggle("wide", this.controls.side.hidden);
    this.later();
  }

  /** Writes the state down once it has been still for a moment. */
  private later(): void {
    clearTimeout(this.saver);
    this.saver = window.setTimeout(() => {
      if (!this.root.isConnected) return;
      this.state.view = this.panels.place().map((part, at) =>
        Number(part.toFixed(at < 2 ? 6 : 3)),
      ) as State["view"];
      const text = write(this.data, this.state);
      history.replaceState(history.state, "", `#${text}`);
      try {
        sessionStorage.setItem(`cloudmask ${this.data.key}`, text);
      } catch {
        // A browser that keeps nothing has the address still.
      }
    }, SAVE_MS);
  }

  private makeDivider(): void {
    const attributes = {
      role: "slider", tabindex: "0", "aria-label": "Divider", "aria-valuemin": "0",
      "aria-valuemax": "100", "aria-orientation": "horizontal", class: "divider",
    };
    for (const [name, value] of Object.entries(attributes)) this.divider.setAttribute(name, value);
    this.divider.onpointerdown = (event) => {
      this.divider.setPointerCapture(event.pointerId);
      event.stopPropagation();
    };
    this.divider.onpointermove = (event) => {
      if (!this.divider.hasPointerCapture(event.pointerId)) return;
      const box = this.stage.getBoundingClientRect();
      this.divide((event.clientX - box.left) / box.width);
    };
    this.stage.append(this.divider);
  }

  private divide(share: number): void {
    this.state.divider = Math.min(Math.max(share, 0), 1);
    this.panels.moveDivider(this.state.divider);
    this.later();
  }

  private press(event: KeyboardEvent): void {
    const target = event.composedPath()[0] as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target === this.divider && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      this.divide(this.state.divider + (event.key === "ArrowLeft" ? -1 : 1) * DIVIDER_STEP);
      event.preventDefault();
      return;
    }
    if (target.tagName === "SELECT") return;
    const on = target.classList.contains("panel");
    if (this.pen.press(event.key, on ? this.panels.view.getCenter() : undefined)) {
      // What the pen takes is no shortcut of the map.
    } else if (event.key === "Enter" && on) this.panels.clickMiddle();
    else if (!this.shortcut(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  private shortcut(key: string): boolean {
    const state = this.state;
    if (key === "f") this.panels.fit();
    else if (key === "e") void this.save();
    else if (key === "l") this.controls.toggleList();
    else if (key === "s") state.layout = state.layout === "swipe" ? "1" : "swipe";
    else if (key === "p") state.layout = NEXT[state.layout];
    else if (key === "h") state.hideClear = !state.hideClear;
    else if (key === "o") state.outlines = !state.outlines;
    else if (/^[1-9]$/.test(key)) {
      const entry = [...state.panels[state.active]].reverse()[Number(key) - 1];
      if (!entry) return false;
      entry.on = !entry.on;
    } else if (key === "[" || key === "]") {
      const top = [...state.panels[state.active]].reverse().find((entry) => entry.on);
      if (!top) return false;
      const wanted = top.opacity + (key === "[" ? -1 : 1) * OPACITY_STEP;
      top.opacity = Math.min(Math.max(Math.round(wanted * 100) / 100, 0), 1);
    } else return false;
    this.show(true);
    return true;
  }

  private drew(events: PenEvent[]): void {
    this.tell("drawn", { events });
  }

  private async save(): Promise<void> {
    const shots = this.panels.maps.map((map) => ({ map, box: map.getTargetElement()! }));
    const [longitude, latitude] = this.panels.place();
    const where = `${latitude.toFixed(4)}, ${longitude.toFixed(4)} (latitude, longitude)`;
    const credit = `${this.data.key}; middle at ${where}; openeo-cloudmask`;
    await savePicture(shots, this.controls.explained(), credit, this.data.key);
  }
}

const maps = new WeakMap<object, CloudMap>();

/** Shows the map in a place of the page, or brings the one that is there up to date. */
export function show(component: Component): () => void {
  const { data, parentElement, setTriggerValue } = component;
  let map = maps.get(parentElement);
  if (map) map.update(data, setTriggerValue);
  else {
    map = new CloudMap(data, parentElement, setTriggerValue);
    maps.set(parentElement, map);
  }
  const shown = map;
  return () => {
    maps.delete(parentElement);
    shown.leave();
  };
}
