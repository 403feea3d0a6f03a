// Numbers for people. A rate of nothing is "0", never "0.00": what does not move must look like it.

const PREFIXES = ["", "k", "M", "G", "T", "P"];

/** Three digits with a decimal prefix: 1.23, 12.3, 123, "k", ... */
export function scaled(value: number, unit = ""): string {
  let [size, power] = [Math.abs(value), 0];
  while (size >= 999.5 && power < PREFIXES.length - 1) [size, power] = [size / 1000, power + 1];
  const digits = size === 0 || size >= 99.95 || (power === 0 && Number.isInteger(value)) ? 0 : size >= 9.995 ? 1 : 2;
  const suffix = `${PREFIXES[power] ?? ""}${unit}`;
  const text = `${value < 0 ? "-" : ""}${size.toFixed(digits)}`;
  return suffix === "" ? text : `${text} ${suffix}`;
}

/** Bits a second. */
export function bits(value: number): string {
  return scaled(value, "bit/s");
}

/** Packets a second. */
export function packets(value: number): string {
  return scaled(value, "pps");
}

/** Bytes. */
export function bytes(value: number): string {
  return scaled(value, "B");
}

/** A share of 1. */
export function percent(value: number): string {
  const share = value * 100;
  return share === 0 ? "0 %" : share < 1 ? "< 1 %" : `${share.toFixed(0)} %`;
}

/** Seconds: 5 s, 3 min, 2 h 5 min, 4 d 3 h. */
export function duration(seconds: number): string {
  const [s, m, h] = [Math.floor(seconds), Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (s < 60) return `${s} s`;
  if (m < 60) return `${m} min`;
  if (h < 24) return m % 60 === 0 ? `${h} h` : `${h} h ${m % 60} min`;
  return h % 24 === 0 ? `${Math.floor(h / 24)} d` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** Nanoseconds: 183 ns, 5.4 µs, 65 µs. */
export function nanoseconds(value: number): string {
  return value < 1000 ? `${value.toFixed(0)} ns` : `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} µs`;
}

/** Time of day. */
export function clock(at: number): string {
  return new Date(at).toLocaleTimeString(undefined, { hour12: false });
}

/** One and many. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${scaled(count)} ${count === 1 ? one : many}`;
}

/** Names of the classes of bursts by size, as the contract has them (WorkerStatus.burst_sizes). */
export function burstClasses(count: number): string[] {
  return Array.from({ length: count }, (_, i) => (i < 2 ? String(i + 1) : `${2 ** (i - 1) + 1}–${2 ** i}`));
}

/** Names of the classes of turns by duration, as the contract has them (WorkerStatus.turn_durations). */
export function durationClasses(count: number): string[] {
  const bound = (i: number) => (i < 10 ? `${2 ** i} µs` : `${2 ** (i - 10)} ms`);
  return Array.from({ length: count }, (_, i) => (i < count - 1 ? `< ${bound(i)}` : `≥ ${bound(Math.max(i - 1, 0))}`));
}
