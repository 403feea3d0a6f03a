import type { Peer, Port } from "../api/types";
import { bits, percent, plural } from "../format";
import { load, of, ofRoles } from "../rates";
import { choose, cluster, nodes, now, shownNode, status } from "../state";
import { Card, Empty } from "../ui/card";

/** Pods, and nodes, that are drawn; the others are counted. */
const PODS = 12;
const PEERS = 16;
const STEP = 46;
const WIDTH = 1000;
const HUB = { x: 470, width: 150 };

export function Topology() {
  const all = status.value;
  if (all === null) return <Empty>The topology is shown when the dataplane answers.</Empty>;
  const pods = all.ports.filter((port) => port.id !== 0).sort((a, b) => a.label.localeCompare(b.label));
  const shown = { pods: pods.slice(0, PODS), peers: all.peers.slice(0, PEERS) };
  const rows = Math.max(shown.pods.length, shown.peers.length + 1, 3);
  const height = rows * STEP + 40;
  const place = (count: number) => (i: number) => height / 2 + (i - (count - 1) / 2) * STEP;
  const [podAt, peerAt] = [place(shown.pods.length), place(shown.peers.length + 1)];
  return (
    <Card title="Topology" note={`${plural(pods.length, "pod")} here, ${plural(all.peers.length, "other node")}`}>
      <div class="scroll" tabIndex={0} role="region" aria-label="Picture of the topology">
        <svg class="topology" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label="Pods, this node and the others">
          {shown.pods.map((port, i) => (
            <PodLine key={port.interface} port={port} y={podAt(i)} middle={height / 2} />
          ))}
          {shown.peers.map((peer, i) => (
            <PeerLine key={peer.name} peer={peer} y={peerAt(i)} middle={height / 2} />
          ))}
          <OutsideLine y={peerAt(shown.peers.length)} middle={height / 2} />
          <Hub middle={height / 2} />
        </svg>
      </div>
      {pods.length > PODS && <p class="dim">and {plural(pods.length - PODS, "pod")} more: see Ports</p>}
      {all.peers.length > PEERS && <p class="dim">and {plural(all.peers.length - PEERS, "node")} more</p>}
      <Nodes />
    </Card>
  );
}

function Hub({ middle }: { middle: number }) {
  const point = now.value;
  return (
    <g class="hub" transform={`translate(${HUB.x - HUB.width / 2} ${middle - 40})`}>
      <rect width={HUB.width} height="80" rx="14" />
      <text x={HUB.width / 2} y="34" class="name">
        {shownNode.value}
      </text>
      <text x={HUB.width / 2} y="56">
        load {percent(point === undefined ? 0 : load(point))}
      </text>
    </g>
  );
}

interface LineProps {
  y: number;
  middle: number;
}

function PodLine({ port, y, middle }: LineProps & { port: Port }) {
  const [rx, tx] = of(now.value, port);
  return (
    <g class={port.ready ? "" : "broken"}>
      <Wire from={[250, y]} to={[HUB.x - HUB.width / 2, middle]} rate={rx + tx} />
      <g class="box" transform={`translate(10 ${y - 17})`}>
        <rect width="240" height="34" rx="9" />
        <text x="12" y="21" class="start">
          {short(port.label === "" ? port.interface : port.label, 18)}
        </text>
        <text x="228" y="21" class="end">
          {port.ready ? (rx + tx > 0 ? bits(rx + tx) : "idle") : "not ready"}
        </text>
      </g>
    </g>
  );
}

function PeerLine({ peer, y, middle }: LineProps & { peer: Peer }) {
  const known = !/^(unresolved|no route)/.test(peer.neighbor);
  const [rx, tx] = now.value?.peers[peer.name] ?? [0, 0];
  const rate = rx + tx;
  return (
    <g class={known ? "" : "broken"}>
      <Wire from={[HUB.x + HUB.width / 2, middle]} to={[720, y]} rate={rate} />
      <g class="box" transform={`translate(720 ${y - 17})`}>
        <title>
          {`${peer.name}, ${peer.address}, ${peer.path}: ${peer.neighbor}\n`}
          {`in ${bits(rx)}, out ${bits(tx)}`}
        </title>
        <rect width="270" height="34" rx="9" />
        <text x="12" y="21" class="start">
          {short(peer.name, 16)} <tspan class="dim">{peer.path}</tspan>
        </text>
        <text x="258" y="21" class="end">
          {!known ? "no next hop" : rate > 0 ? bits(rate) : "idle"}
        </text>
      </g>
    </g>
  );
}

function OutsideLine({ y, middle }: LineProps) {
  const point = now.value;
  const of = (kind: 0 | 1) => (point === undefined ? 0 : ofRoles(point, status.value, ["uplink"], kind));
  const rate = of(0) + of(1);
  return (
    <g>
      <Wire from={[HUB.x + HUB.width / 2, middle]} to={[720, y]} rate={rate} />
      <g class="box wire" transform={`translate(720 ${y - 17})`}>
        <rect width="270" height="34" rx="9" />
        <text x="12" y="21" class="start">
          uplink <tspan class="dim">nodes and outside</tspan>
        </text>
        <text x="258" y="21" class="end">
          {rate > 0 ? bits(rate) : "idle"}
        </text>
      </g>
    </g>
  );
}

/** Wider and brighter with the rate: 1 kbit/s is thin, 10 Gbit/s is the widest. */
function Wire({ from, to, rate }: { from: [number, number]; to: [number, number]; rate: number }) {
  const strength = rate > 0 ? Math.min(Math.max(Math.log10(rate / 1000) / 7, 0.05), 1) : 0;
  const bend = (from[0] + to[0]) / 2;
  const path = `M${from.join(" ")}C${bend} ${from[1]} ${bend} ${to[1]} ${to.join(" ")}`;
  return (
    <>
      <path class="wire" d={path} />
      {rate > 0 && <path class="wire busy" d={path} style={{ strokeWidth: 1.5 + strength * 6 }} />}
      {rate > 0 && <path class="wire moving" d={path} />}
    </>
  );
}

/** All nodes of the cluster, where this agent may ask them. */
function Nodes() {
  if (!cluster.value) return null;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Table of nodes">
      <table>
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col" class="number">Load</th>
            <th scope="col" class="number">Carries</th>
            <th scope="col" class="number">Pods</th>
            <th scope="col" class="number">Drops a second</th>
          </tr>
        </thead>
        <tbody>
          {nodes.value.map((node) => (
            <tr key={node.name} class={node.problem === "" ? "" : "broken"}>
              <th scope="row">
                <button
                  type="button"
                  class="link"
                  onClick={() => {
                    choose(node.name);
                  }}
                >
                  {node.name}
                </button>
                <span class="dim">{node.problem === "" ? node.address : node.problem}</span>
              </th>
              <td class="number">{percent(node.load)}</td>
              <td class="number">{bits(node.bps)}</td>
              <td class="number">{node.pods}</td>
              <td class="number">{node.dropped}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function short(text: string, limit: number): string {
  return text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
}
