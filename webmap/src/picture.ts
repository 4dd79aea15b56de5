// What is on the screen as a PNG, with names, legend and scale.

import type OlMap from "ol/Map";
import type { LayerData } from "./types";

const GAP = 6;
const LINE = 22;
const MARGIN = 12;
const SWATCH = 14;
const FONT = "14px sans-serif";

interface Shot {
  map: OlMap;
  box: HTMLElement;
}

function drawMap(context: CanvasRenderingContext2D, shot: Shot, x: number, y: number): void {
  context.save();
  context.beginPath();
  context.rect(x, y, shot.box.clientWidth, shot.box.clientHeight);
  context.clip();
  context.fillStyle = "#d9dde1";
  context.fillRect(x, y, shot.box.clientWidth, shot.box.clientHeight);
  for (const canvas of shot.box.querySelectorAll<HTMLCanvasElement>(".ol-layer canvas")) {
    if (canvas.width === 0) continue;
    const opacity = (canvas.parentElement?.style.opacity || canvas.style.opacity) || "1";
    context.globalAlpha = Number(opacity);
    const found = /^matrix\(([^)]*)\)$/.exec(canvas.style.transform);
    const matrix = found
      ? found[1].split(",").map(Number)
      : [
          parseFloat(canvas.style.width) / canvas.width || 1, 0, 0,
          parseFloat(canvas.style.height) / canvas.height || 1, 0, 0,
        ];
    const [a, b, c, d, e, f] = matrix;
    context.setTransform(a, b, c, d, e + x, f + y);
    context.drawImage(canvas, 0, 0);
  }
  context.restore();
  drawScale(context, shot, x, y + shot.box.clientHeight);
}

function drawScale(context: CanvasRenderingContext2D, shot: Shot, x: number, bottom: number): void {
  const bar = shot.box.querySelector<HTMLElement>(".ol-scale-line-inner");
  if (!bar) return;
  const width = bar.clientWidth;
  context.fillStyle = "rgba(255,255,255,.85)";
  context.fillRect(x + 6, bottom - 30, width + 12, 24);
  context.strokeStyle = context.fillStyle = "#111";
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(x + 12, bottom - 16);
  context.lineTo(x + 12, bottom - 11);
  context.lineTo(x + 12 + width, bottom - 11);
  context.lineTo(x + 12 + width, bottom - 16);
  context.stroke();
  context.font = "11px sans-serif";
  context.textAlign = "center";
  context.fillText(bar.textContent ?? "", x + 12 + width / 2, bottom - 17);
  context.textAlign = "left";
}

function drawLabels(context: CanvasRenderingContext2D, box: HTMLElement, x: number, y: number): void {
  context.font = FONT;
  for (const label of box.querySelectorAll<HTMLElement>(".label")) {
    if (label.hidden) continue;
    const width = context.measureText(label.textContent ?? "").width + 12;
    const left = x + Math.min(label.offsetLeft, box.clientWidth - width);
    context.fillStyle = "rgba(255,255,255,.9)";
    context.fillRect(left, y + 6, width, 22);
    context.fillStyle = "#111";
    context.fillText(label.textContent ?? "", left + 6, y + 22);
  }
}

/** Returns rows of [colour, title] that fit into `width`. */
function rows(
  context: CanvasRenderingContext2D, layers: LayerData[], width: number,
): [string, string, number][][] {
  context.font = FONT;
  const found: [string, string, number][][] = [];
  for (const layer of layers) {
    let row: [string, string, number][] = [];
    let x = 0;
    for (const item of layer.classes ?? []) {
      const long = SWATCH + 6 + context.measureText(item.title).width + 18;
      if (x + long > width && row.length) {
        found.push(row);
        [row, x] = [[], 0];
      }
      row.push([item.color, item.title, x]);
      x += long;
    }
    if (row.length) found.push(row);
  }
  return found;
}

export async function savePicture(
  shots: Shot[], layers: LayerData[], credit: string, name: string,
): Promise<void> {
  const origin = shots[0].box.parentElement!.getBoundingClientRect();
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d")!;
  const width = Math.round(origin.width);
  const legend = rows(context, layers, width - 2 * MARGIN);
  canvas.width = width;
  canvas.height = Math.round(origin.height) + legend.length * LINE + LINE + 2 * GAP;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const shot of shots) {
    const box = shot.box.getBoundingClientRect();
    drawMap(context, shot, box.left - origin.left, box.top - origin.top);
    drawLabels(context, shot.box, box.left - origin.left, box.top - origin.top);
  }
  let y = Math.round(origin.height) + GAP;
  for (const row of legend) {
    for (const [color, title, x] of row) {
      context.fillStyle = `#${color}`;
      context.fillRect(MARGIN + x, y + 4, SWATCH, SWATCH);
      context.strokeStyle = "#555";
      context.lineWidth = 1;
      context.strokeRect(MARGIN + x + 0.5, y + 4.5, SWATCH - 1, SWATCH - 1);
      context.fillStyle = "#111";
      context.font = FONT;
      context.fillText(title, MARGIN + x + SWATCH + 6, y + 16);
    }
    y += LINE;
  }
  context.fillStyle = "#444";
  context.font = "12px sans-serif";
  context.fillText(credit, MARGIN, y + 15);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  if (!blob) throw new Error("the browser cannot make the picture");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name.replace(/[^\w.-]+/g, "-")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
