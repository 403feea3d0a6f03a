import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { expect, test } from "vitest";

const dist = new URL("../dist/", import.meta.url);
const files = readdirSync(dist).map((name) => readFileSync(new URL(name, dist)));

test("the built page is below 150 kB compressed", () => {
  const sum = files.reduce((total, file) => total + gzipSync(file).length, 0);
  expect(sum).toBeLessThan(150_000);
});

test("the built page names no other host", () => {
  const hosts = files.flatMap((file) => [...file.toString().matchAll(/(?:https?|wss?):\/\/[\w.-]+/g)].map(([host]) => host));
  // Names of XML languages, which nobody asks for.
  expect(hosts.filter((host) => host !== "http://www.w3.org")).toEqual([]);
});
