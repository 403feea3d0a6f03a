import { afterEach, expect, test, vi } from "vitest";

import { address, follow } from "./stream";
import type { Look } from "./types";

const QUERY = { since: 3, node: "", flows: undefined, services: undefined };

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test("the address holds what is asked and never the token", () => {
  expect(address(QUERY)).toBe("/api/v1/stream?since=3");
  expect(address({ ...QUERY, node: "b", flows: "a & b", services: "" })).toBe(
    "/api/v1/stream?since=3&node=b&flows=a+%26+b&services=",
  );
});

test("looks are handed on, the end of the stream is told, and another try follows", async () => {
  vi.useFakeTimers();
  const asked: RequestInit[] = [];
  vi.stubGlobal("fetch", (_: string, init: RequestInit) => {
    asked.push(init);
    return Promise.resolve(new Response('data: {"sequence":1}\n\n'));
  });
  const [looks, told]: [Look[], string[]] = [[], []];
  const controller = new AbortController();
  const listener = { look: (look: Look) => looks.push(look), lost: (why: string) => told.push(why), denied: vi.fn() };
  const ended = follow(() => QUERY, () => "secret", listener, controller.signal);
  await vi.advanceTimersByTimeAsync(1500);
  controller.abort();
  await ended;
  expect(looks.map((look) => look.sequence)).toEqual([1, 1]);
  expect(told[0]).toContain("ended the stream");
  expect(asked[0]?.headers).toEqual({ Authorization: "Bearer secret" });
});

test("a wrong token ends it, an agent that is away does not", async () => {
  vi.useFakeTimers();
  const denied = vi.fn();
  const lost = vi.fn();
  const answers = [Promise.reject(new TypeError("refused")), Promise.resolve(new Response("", { status: 401 }))];
  vi.stubGlobal("fetch", () => answers.shift());
  const ended = follow(() => QUERY, () => "", { look: vi.fn(), lost, denied }, new AbortController().signal);
  await vi.advanceTimersByTimeAsync(1500);
  await ended;
  expect(lost).toHaveBeenCalledWith("the agent does not answer");
  expect(denied).toHaveBeenCalledOnce();
});
