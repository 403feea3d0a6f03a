// What the page knows. Signals, so that only what changed is drawn again.

import { computed, signal } from "@preact/signals";

import type { Flow, HappenedEvent, Look, NodeSummary, Point, Section, Service, Status } from "./api/types";

/** Ten minutes, as the agent keeps. */
const POINTS = 600;
const EVENTS = 200;

export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "lost"; why: string; since: number }
  | { state: "denied" };

export const link = signal<Link>({ state: "connecting" });
export const points = signal<readonly Point[]>([]);
export const events = signal<readonly HappenedEvent[]>([]);
export const status = signal<Status | null>(null);
export const problem = signal<string | null>(null);
export const nodes = signal<readonly NodeSummary[]>([]);
export const flows = signal<Section<Flow> | null>(null);
export const services = signal<Section<Service> | null>(null);
/** The node that the agent runs on. */
export const ownNode = signal("");
/** The node that is shown; empty = the agent's own. */
export const chosenNode = signal("");
export const shownNode = computed(() => (chosenNode.value === "" ? ownNode.value : chosenNode.value));
export const cluster = signal(false);
export const version = signal("");
/** Number of the last event; the next stream goes on behind it. */
export const sequence = signal(0);
/** The last second. */
export const now = computed(() => points.value.at(-1));

/** Takes an event of the stream. */
export function take(look: Look): void {
  // A smaller number is another run of the agent, which begins anew and has sent all it has.
  const anew = look.sequence < sequence.value || sequence.value === 0;
  points.value = append(anew ? [] : points.value, look.points, POINTS);
  events.value = append(anew ? [] : events.value, look.events, EVENTS);
  sequence.value = look.sequence;
  status.value = look.status;
  problem.value = look.problem;
  version.value = look.version;
  if (chosenNode.value === "") {
    ownNode.value = look.node;
    cluster.value = look.cluster;
  }
  nodes.value = look.nodes;
  flows.value = look.flows ?? null;
  services.value = look.services ?? null;
  link.value = { state: "live" };
}

/** The stream is gone. */
export function lost(why: string): void {
  const since = link.value.state === "lost" ? link.value.since : Date.now();
  link.value = { state: "lost", why, since };
}

/** Shows another node from its beginning. */
export function choose(node: string): void {
  chosenNode.value = node === ownNode.value ? "" : node;
  forget();
}

function forget(): void {
  [sequence.value, points.value, events.value] = [0, [], []];
  [status.value, problem.value, flows.value, services.value] = [null, null, null, null];
  link.value = { state: "connecting" };
}

/** The newest `limit` of both. */
export function append<T>(list: readonly T[], more: readonly T[], limit: number): readonly T[] {
  return more.length === 0 ? list : [...list, ...more].slice(-limit);
}
