import { expect, test } from "vitest";

import type { Point, Status } from "./api/types";
import { carried, drops, histogram, load } from "./rates";

const point: Point = {
  at: 0, up: true, flows: 0, new_flows: 0, dropped: 3, drops: { no_route: 3 },
  ports: { a: [100, 1, 10, 1, 0], b: [50, 2, 5, 2, 0] }, peers: {},
  workers: [worker(0.25, [1, 2]), worker(0.5, [3, 4])],
};

test("sums over ports and the busiest worker", () => {
  expect(carried(point)).toBe(150);
  expect(load(point)).toBe(0.5);
});

test("a histogram adds the last seconds up", () => {
  expect(histogram([point, point], 1, "burst_sizes")).toEqual([6, 8]);
  expect(histogram([point, point], 1, "burst_sizes", 1)).toEqual([3, 4]);
  expect(histogram([point], 7, "burst_sizes")).toEqual([]);
});

test("drops of all workers, those of now first", () => {
  const count = (reason: string, n: number) => ({ reason, meaning: "", count: n });
  const status = { workers: [{ drops: [count("old", 50), count("no_route", 2)] }, { drops: [count("no_route", 4)] }] };
  const list = drops(status as Status, point).map((drop) => [drop.reason, drop.count, drop.perSecond]);
  expect(list).toEqual([["no_route", 6, 3], ["old", 50, 0]]);
});

function worker(share: number, sizes: number[]) {
  return { load: share, bps: 0, pps: 0, burst: 0, burst_sizes: sizes, turn_durations: sizes };
}
