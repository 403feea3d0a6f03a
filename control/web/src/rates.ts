// Sums that several views need. "In" and "out" are seen from the dataplane.

import type { Point, Port, PortRates, Status } from "./api/types";

const NOTHING: PortRates = [0, 0, 0, 0, 0];

/** All that the dataplane received, in bits a second: what it carries. */
export function carried(point: Point): number {
  return Object.values(point.ports).reduce((sum, rates) => sum + rates[0], 0);
}

/** All frames received a second. */
export function frames(point: Point): number {
  return Object.values(point.ports).reduce((sum, rates) => sum + rates[2], 0);
}

/** The busiest worker's load. */
export function load(point: Point): number {
  return point.workers.reduce((most, worker) => Math.max(most, worker.load), 0);
}

/** Sum of one kind of rate over the ports that play one of `roles`. */
export function ofRoles(point: Point, status: Status | null, roles: readonly string[], kind: 0 | 1 | 2 | 3): number {
  const ports = status?.ports.filter((port) => roles.includes(port.role)) ?? [];
  return ports.reduce((sum, port) => sum + of(point, port)[kind], 0);
}

export function of(point: Point | undefined, port: Port): PortRates {
  return point?.ports[port.interface] ?? NOTHING;
}

/** Histograms of one worker over the last `seconds`, added up. */
export function histogram(
  points: readonly Point[],
  worker: number,
  kind: "burst_sizes" | "turn_durations",
  seconds = 60,
): number[] {
  const sums: number[] = [];
  for (const point of points.slice(-seconds)) {
    point.workers[worker]?.[kind].forEach((count, i) => {
      sums[i] = (sums[i] ?? 0) + count;
    });
  }
  return sums;
}

export interface Drop {
  reason: string;
  meaning: string;
  count: number;
  perSecond: number;
}

/** All reasons that ever dropped something, the most frequent now first. */
export function drops(status: Status | null, point: Point | undefined): Drop[] {
  const sums = new Map<string, Drop>();
  for (const { reason, meaning, count } of status?.workers.flatMap((worker) => worker.drops) ?? []) {
    const known = sums.get(reason);
    if (known === undefined) sums.set(reason, { reason, meaning, count, perSecond: point?.drops[reason] ?? 0 });
    else known.count += count;
  }
  return [...sums.values()].sort((a, b) => b.perSecond - a.perSecond || b.count - a.count);
}
