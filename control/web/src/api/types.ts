// What the agent sends: control/src/http/stream.rs puts it together. Only what the page uses is written down here.

/** One event of the stream. */
export interface Look {
  sequence: number;
  node: string;
  version: string;
  /** Whether other nodes are shown too. */
  cluster: boolean;
  /** Why the dataplane does not answer. */
  problem: string | null;
  points: Point[];
  events: HappenedEvent[];
  status: Status | null;
  nodes: NodeSummary[];
  flows?: Section<Flow> | null;
  services?: Section<Service> | null;
}

/** One second of a node: control/src/observe/point.rs. */
export interface Point {
  /** Milliseconds since 1970. */
  at: number;
  up: boolean;
  workers: WorkerRates[];
  /** By interface, a second. */
  ports: Record<string, PortRates>;
  /** By the other node's name: bits a second that come from it, and that go to it. */
  peers: Record<string, [rxBps: number, txBps: number]>;
  drops: Record<string, number>;
  dropped: number;
  flows: number;
  new_flows: number;
}

/** Received and sent bits, received and sent frames, and frames that were dropped or lost. */
export type PortRates = [rxBps: number, txBps: number, rxPps: number, txPps: number, lost: number];

export interface WorkerRates {
  /** 0 to 1. */
  load: number;
  bps: number;
  pps: number;
  burst: number;
  /** 1, 2, 3 to 4, 5 to 8, ... packets. */
  burst_sizes: number[];
  /** Below 1, 2, 4, 8, ... microseconds; the last has no bound. */
  turn_durations: number[];
}

export interface HappenedEvent {
  at: number;
  kind: "tables" | "ports" | "peers" | "daemons" | "warning" | "solved";
  text: string;
}

/** What `headracectl status --json` prints. */
export interface Status {
  version: string;
  uptime_seconds: number;
  generation: number;
  state_source: string;
  services: number;
  endpoints: number;
  ports: Port[];
  workers: Worker[];
  peers: Peer[];
  flows: { live: number; capacity: number };
  warnings: string[];
  last_refusals: { resource: string; field: string; reason: string }[];
  /** What of its input the agent cannot use. */
  agent_problems: string[];
}

export interface Port {
  id: number;
  interface: string;
  role: string;
  label: string;
  ready: boolean;
  problem: string;
  driver: string;
  xdp_mode: string;
  copy_mode: string;
  superframes: boolean;
  mtu: number;
  why: string;
  addresses: string[];
  counters: Counters;
  drops: Dropped[];
}

export interface Dropped {
  reason: string;
  meaning: string;
  count: number;
}

export interface Counters {
  rx_frames: number;
  rx_bytes: number;
  tx_frames: number;
  tx_bytes: number;
  rx_ring_full: number;
  fill_ring_empty: number;
  tx_invalid: number;
}

export interface Worker {
  id: number;
  core: number;
  pinned: boolean;
  drops: Dropped[];
  stages?: { stage: string; ns: number; packets: number }[];
}

export interface Peer {
  name: string;
  address: string;
  path: string;
  neighbor: string;
  traffic: { rx_frames: number; rx_bytes: number; tx_frames: number; tx_bytes: number } | null;
}

/** control/src/http/cluster.rs. */
export interface NodeSummary {
  name: string;
  address: string;
  problem: string;
  load: number;
  bps: number;
  pps: number;
  dropped: number;
  flows: number;
  pods: number;
}

/** A part that is only sent while it is shown: control/src/http/sections.rs. */
export interface Section<T> {
  problem: string | null;
  found: number;
  more: boolean;
  list: T[];
}

export interface Flow {
  protocol: string;
  client: string;
  destination: string;
  server: string;
  state: string;
  way: string;
  client_pod: string;
  server_pod: string;
  service: string;
  bytes: number;
  frames: number;
  bps: number;
  age: number;
  idle: number;
}

export interface Service {
  name: string;
  frontends: string[];
  /** Connections that are open. */
  active: number;
  /** All that were begun since the dataplane runs. */
  begun: number;
  endpoints: Endpoint[];
  more_endpoints: number;
}

export interface Endpoint {
  address: string;
  place: string;
  active: number;
  begun: number;
}
