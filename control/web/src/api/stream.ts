import { EventParser } from "./sse";
import type { Look } from "./types";

/** Time without an event after which the agent counts as gone: five times what it promises. */
const SILENCE = 5000;
/** Time until the next try. */
const PAUSE = 1000;

/** What is asked for. */
export interface Query {
  since: number;
  node: string;
  flows: string | undefined;
  services: string | undefined;
}

/** What becomes of the stream. */
export interface Listener {
  look: (look: Look) => void;
  /** The stream is gone; another try follows by itself. */
  lost: (why: string) => void;
  /** A token is needed; no other try follows. */
  denied: () => void;
}

/** The address of the stream. It never holds the token, so it may stand in logs. */
export function address(query: Query): string {
  const wanted = new URLSearchParams({ since: String(query.since) });
  if (query.node !== "") wanted.set("node", query.node);
  if (query.flows !== undefined) wanted.set("flows", query.flows);
  if (query.services !== undefined) wanted.set("services", query.services);
  return `/api/v1/stream?${wanted.toString()}`;
}

/** Reads the stream until the signal, whatever happens to the agent meanwhile. */
export async function follow(
  query: () => Query,
  token: () => string,
  listener: Listener,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const outcome = await read(query(), token(), listener, signal);
    if (ended(signal)) return;
    if (outcome === "denied") {
      listener.denied();
      return;
    }
    listener.lost(outcome);
    await pause(signal);
  }
}

/** Whether it ended meanwhile: the compiler takes the loop's own check to hold for ever. */
function ended(signal: AbortSignal): boolean {
  return signal.aborted;
}

async function read(query: Query, token: string, listener: Listener, signal: AbortSignal): Promise<string> {
  const silence = new Watchdog(SILENCE);
  try {
    const headers: Record<string, string> = token === "" ? {} : { Authorization: `Bearer ${token}` };
    const response = await fetch(address(query), {
      headers,
      cache: "no-store",
      signal: AbortSignal.any([signal, silence.signal]),
    });
    if (response.status === 401) return "denied";
    if (!response.ok || response.body === null) return (await response.text()).trim();
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return "the agent has ended the stream";
      silence.feed();
      for (const event of parser.add(value)) listener.look(JSON.parse(event) as Look);
    }
  } catch {
    return silence.signal.aborted ? "the agent is silent" : "the agent does not answer";
  } finally {
    silence.stop();
  }
}

/** Ends a request that has nothing to say. */
class Watchdog {
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly limit: number) {
    this.feed();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  feed(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#controller.abort();
    }, this.limit);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, PAUSE);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
