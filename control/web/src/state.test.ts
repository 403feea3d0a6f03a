import { beforeEach, expect, test } from "vitest";

import type { Look, Point } from "./api/types";
import * as state from "./state";

beforeEach(() => {
  state.sequence.value = 0;
  state.choose("");
});

test("points are added up to ten minutes", () => {
  state.take(look(600, points(0, 600)));
  state.take(look(601, points(600, 1)));
  expect(state.points.value.length).toBe(600);
  expect(state.points.value[0]?.at).toBe(1);
  expect(state.now.value?.at).toBe(600);
});

test("an agent that was started again begins anew", () => {
  state.take(look(50, points(0, 50)));
  state.take(look(2, points(100, 2)));
  expect(state.points.value.map((point) => point.at)).toEqual([100, 101]);
});

test("a lost agent keeps what was known and tells since when", () => {
  state.take(look(1, points(0, 1)));
  state.lost("gone");
  const first = state.link.value;
  state.lost("still gone");
  expect(state.points.value.length).toBe(1);
  expect(state.link.value).toMatchObject({ state: "lost", since: first.state === "lost" ? first.since : -1 });
  state.take(look(2, points(1, 1)));
  expect(state.link.value).toEqual({ state: "live" });
});

function look(sequence: number, list: Point[]): Look {
  return {
    sequence, node: "a", version: "1", cluster: false, problem: null, points: list, events: [], status: null, nodes: [],
  };
}

function points(from: number, count: number): Point[] {
  return Array.from({ length: count }, (_, i) => ({
    at: from + i, up: true, workers: [], ports: {}, peers: {}, drops: {}, dropped: 0, flows: 0, new_flows: 0,
  }));
}
