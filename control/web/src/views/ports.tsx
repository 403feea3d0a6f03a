import type { Dropped, Port } from "../api/types";
import { bits, packets, plural, scaled } from "../format";
import { search } from "../preferences";
import { drops, of } from "../rates";
import { now, points, status } from "../state";
import { Card, Empty } from "../ui/card";
import { Search } from "../ui/search";

/** The last two minutes in a row of the table. */
const SPARK = 120;

export function Ports() {
  const all = status.value?.ports;
  if (all === undefined) return <Empty>Ports are shown when the dataplane answers.</Empty>;
  const found = all.filter((port) => matches(port, search.value)).sort(inOrder);
  const lost = drops(status.value, now.value).filter((drop) => drop.perSecond > 0);
  return (
    <Card title="Ports" note={`${plural(all.length, "port")}; received is what the pod or the wire sends`}>
      <Search label="Search ports" hint="interface, pod, address or reason of drops" />
      {lost.length > 0 && (
        <p class="notice warn">
          Dropped now: {lost.map((drop) => `${drop.reason} ${scaled(drop.perSecond, "/s")}`).join(", ")}
        </p>
      )}
      {found.length === 0 ? (
        <Empty>No port has “{search.value}” in its name, addresses or reasons of drops.</Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table of ports">
          <table>
            <thead>
              <tr>
                <th scope="col">Port</th>
                <th scope="col">Addresses</th>
                <th scope="col">Mode</th>
                <th scope="col">Two minutes</th>
                <th scope="col" class="number">Received</th>
                <th scope="col" class="number">Sent</th>
                <th scope="col">Dropped or lost</th>
              </tr>
            </thead>
            <tbody>
              {found.map((port) => (
                <Row key={port.interface} port={port} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}

function Row({ port }: { port: Port }) {
  const [rx, tx, rxFrames, txFrames, lost] = of(now.value, port);
  return (
    <tr class={port.ready ? "" : "broken"}>
      <th scope="row">
        {port.label === "" ? port.role : port.label}
        <span class="dim">{port.ready ? port.interface : `${port.interface}: ${port.problem}`}</span>
      </th>
      <td class="mono">{port.addresses.join(", ")}</td>
      <td title={port.why}>
        {[port.driver, port.xdp_mode, port.copy_mode].filter((word) => word !== "").join(", ") || "–"}
        <span class="dim">
          MTU {port.mtu}
          {port.superframes ? ", superframes" : ""}
        </span>
      </td>
      <td>
        <Spark name={port.interface} />
      </td>
      <td class="number">
        {bits(rx)}
        <span class="dim">{packets(rxFrames)}</span>
      </td>
      <td class="number">
        {bits(tx)}
        <span class="dim">{packets(txFrames)}</span>
      </td>
      <td>
        {lost > 0 && <b class="losing">{scaled(lost, "/s")}</b>}
        <Losses port={port} />
      </td>
    </tr>
  );
}

/** By reason, most frequent first. */
function Losses({ port }: { port: Port }) {
  const { rx_ring_full: full, fill_ring_empty: empty, tx_invalid: invalid } = port.counters;
  const kernel: Dropped[] = [
    { reason: "receive ring full", meaning: "Lost in the kernel: the dataplane did not take it in time.", count: full },
    { reason: "fill ring empty", meaning: "Lost in the kernel: no memory was lent to it.", count: empty },
    { reason: "not sendable", meaning: "The kernel would not send it.", count: invalid },
  ];
  const losses = [...port.drops, ...kernel].filter(({ count }) => count > 0).sort((a, b) => b.count - a.count);
  if (losses.length === 0) return <span class="dim">nothing</span>;
  return (
    <ul class="losses">
      {losses.map(({ reason, meaning, count }) => (
        <li key={reason} title={meaning}>
          {reason} <b>{scaled(count)}</b>
        </li>
      ))}
    </ul>
  );
}

/** Received and sent together; its own scale. */
function Spark({ name }: { name: string }) {
  const sums = points.value.slice(-SPARK).map((point) => (point.ports[name]?.[0] ?? 0) + (point.ports[name]?.[1] ?? 0));
  const highest = Math.max(...sums, 1);
  const at = (sum: number, i: number) => `${((i + SPARK - sums.length) * 120) / SPARK},${25 - (sum / highest) * 22}`;
  return (
    <svg class="spark" viewBox="0 0 120 28" aria-hidden="true">
      <polyline points={sums.map(at).join(" ")} />
    </svg>
  );
}

function matches(port: Port, text: string): boolean {
  const wanted = text.toLowerCase();
  const reasons = port.drops.map((drop) => drop.reason);
  return [port.interface, port.label, port.role, ...port.addresses, ...reasons].some((part) => part.toLowerCase().includes(wanted));
}

/** What is not ready first, then the node's own, then pods by name: rows must not jump. */
function inOrder(a: Port, b: Port): number {
  return Number(a.ready) - Number(b.ready) || Number(a.id !== 0) - Number(b.id !== 0) || a.label.localeCompare(b.label);
}
