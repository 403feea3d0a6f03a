import { expect, test } from "vitest";

import { bits, burstClasses, duration, durationClasses, nanoseconds, percent, scaled } from "./format";

test("three digits and a prefix", () => {
  expect([0, 1, 7.25, 12.34, 99.96, 999.4, 999.6, 1234, 1.2e6, 9.99e9, 2.5e12].map((n) => scaled(n))).toEqual([
    "0", "1", "7.25", "12.3", "100", "999", "1.00 k", "1.23 k", "1.20 M", "9.99 G", "2.50 T",
  ]);
  expect(scaled(-1500)).toBe("-1.50 k");
  expect(scaled(1e22)).toBe("10000000 P");
  expect(bits(0)).toBe("0 bit/s");
});

test("a small share is not nothing", () => {
  expect([0, 0.001, 0.01, 0.5, 1].map(percent)).toEqual(["0 %", "< 1 %", "1 %", "50 %", "100 %"]);
});

test("nanoseconds of a packet, and of a superframe", () => {
  expect([0.4, 183.4, 5400, 65_528].map(nanoseconds)).toEqual(["0 ns", "183 ns", "5.4 µs", "66 µs"]);
});

test("durations have at most two units", () => {
  expect([0, 59, 60, 3600, 3660, 86_400, 90_000].map(duration)).toEqual([
    "0 s", "59 s", "1 min", "1 h", "1 h 1 min", "1 d", "1 d 1 h",
  ]);
});

test("classes are named as the contract has them", () => {
  expect(burstClasses(7)).toEqual(["1", "2", "3–4", "5–8", "9–16", "17–32", "33–64"]);
  expect(durationClasses(12)).toEqual([
    "< 1 µs", "< 2 µs", "< 4 µs", "< 8 µs", "< 16 µs", "< 32 µs", "< 64 µs", "< 128 µs", "< 256 µs", "< 512 µs",
    "< 1 ms", "≥ 1 ms",
  ]);
  expect(durationClasses(0)).toEqual([]);
});
