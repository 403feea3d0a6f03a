import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

import type { Point } from "../api/types";
import { shownTheme } from "../preferences";
import { points } from "../state";

/** Colors by their names in style.css. */
export type Color = "a" | "b" | "c" | "d" | "bad";

export interface Line {
  label: string;
  color: Color;
  fill?: boolean;
  /** `null` leaves a gap. */
  value: (point: Point) => number | null;
}

interface ChartProps {
  /** For those who cannot see it. */
  label: string;
  lines: Line[];
  format: (value: number) => string;
  height?: number;
  /** The axis reaches at least so far. */
  top?: number;
  /** Lines alone, for a tile. */
  bare?: boolean;
}

/** Ten minutes of lines. */
export function Chart({ label, lines, format, height = 180, top = 0, bare = false }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const list = points.value;
  const theme = shownTheme.value;
  const names = lines.map((line) => line.label).join();

  useEffect(() => {
    const parent = place.current;
    if (parent === null) return;
    const made = new uPlot(options({ label, lines, format, height, top, bare }, parent), data(points.peek(), lines), parent);
    plot.current = made;
    const resize = new ResizeObserver(() => {
      made.setSize({ width: parent.clientWidth, height });
    });
    resize.observe(parent);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
    // Lines are made anew by every drawing of the parent; their names tell whether they are others.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [theme, names, height, bare]);

  useEffect(() => {
    plot.current?.setData(data(list, lines));
  });

  return (
    <div class="chart">
      {!bare && lines.length > 1 && (
        <ul class="legend">
          {lines.map((line) => (
            <li key={line.label} class={`swatch ${line.color}`}>
              {line.label}
            </li>
          ))}
        </ul>
      )}
      <div ref={place} role="img" aria-label={label} />
    </div>
  );
}

function data(list: readonly Point[], lines: Line[]): uPlot.AlignedData {
  const at = list.map((point) => point.at / 1000);
  return [at, ...lines.map((line) => list.map((point) => (point.up ? line.value(point) : null)))];
}

function options({ lines, format, height = 180, top = 0, bare }: ChartProps, parent: HTMLElement): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    stroke: color("dim"),
    grid: { stroke: color("grid"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.getPropertyValue("--font")}`,
  };
  return {
    width: Math.max(parent.clientWidth, 50),
    height,
    padding: bare === true ? [4, 0, 0, 0] : [8, 8, 0, 0],
    legend: { show: false },
    cursor: bare === true ? { show: false } : { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    plugins: bare === true ? [] : [readout(lines, format)],
    scales: {
      // A minute at least, and ten when there are as many.
      x: { time: true, range: (_, min, max) => [Math.max(max - 600, Math.min(min, max - 60)), max] },
      y: { range: (_, __, max) => [0, Math.max(max, top, 1e-9) * 1.1] },
    },
    axes:
      bare === true
        ? [{ show: false }, { show: false }]
        : [
            { ...axis, size: 26, space: 80, values: (_, splits, __, ___, step) => splits.map((at) => clockOf(at, step < 60)) },
            { ...axis, size: 74, space: 28, values: (_, splits) => splits.map((value) => (value === 0 ? "0" : format(value))) },
          ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: color(line.color),
        width: 1.75,
        points: { show: false },
        ...(line.fill === true ? { fill: gradient(color(line.color)) } : {}),
      })),
    ],
  };
}

function clockOf(at: number, withSeconds: boolean): string {
  const time = new Date(at * 1000);
  const parts = [time.getHours(), time.getMinutes(), ...(withSeconds ? [time.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function gradient(color: string): uPlot.Series.Fill {
  return (plot) => {
    const { top, height } = plot.bbox;
    const fill = plot.ctx.createLinearGradient(0, top, 0, top + height);
    fill.addColorStop(0, `${color}55`);
    fill.addColorStop(1, `${color}00`);
    return fill;
  };
}

/** The values under the cursor. */
function readout(lines: Line[], format: (value: number) => string): uPlot.Plugin {
  const box = document.createElement("div");
  box.className = "readout";
  return {
    hooks: {
      init: (plot) => {
        plot.over.append(box);
      },
      setCursor: (plot) => {
        const { idx, left = -1 } = plot.cursor;
        box.hidden = idx === null || idx === undefined || left < 0;
        if (idx === null || idx === undefined) return;
        const at = new Date((plot.data[0][idx] ?? 0) * 1000).toLocaleTimeString(undefined, { hour12: false });
        const values = lines.map((line, i) => {
          const value = plot.data[i + 1]?.[idx];
          return `${line.label}: ${value === null || value === undefined ? "–" : format(value)}`;
        });
        box.textContent = [at, ...values].join("\n");
        box.style.transform = `translateX(${left > plot.over.clientWidth / 2 ? left - box.offsetWidth - 12 : left + 12}px)`;
      },
    },
  };
}
