import { expect, test } from "vitest";

import { EventParser } from "./sse";

test("events that come in pieces, byte by byte", () => {
  const text = "event: look\nid: 1\ndata: {\"a\":1}\n\n: nothing\n\ndata: 2\ndata: 3\n\ndata: not yet";
  const parser = new EventParser();
  const events = Array.from(text).flatMap((letter) => parser.add(letter));
  expect(events).toEqual(['{"a":1}', "2\n3"]);
  expect(parser.add("\n\n")).toEqual(["not yet"]);
});

test("an event without end is an error, not a full memory", () => {
  const parser = new EventParser();
  const piece = "x".repeat(1024 * 1024);
  expect(() => {
    for (let i = 0; i < 64; i++) parser.add(piece);
  }).toThrow("without end");
});
