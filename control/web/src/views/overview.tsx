import { bits, burstClasses, clock, durationClasses, nanoseconds, packets, percent, plural, scaled } from "../format";
import { carried, type Drop, drops, frames, histogram, load, ofRoles } from "../rates";
import { show } from "../preferences";
import { events, now, points, status } from "../state";
import { Card, Empty } from "../ui/card";
import { Chart, type Color } from "../ui/chart";
import { Histogram } from "../ui/histogram";
import { EventList } from "./timeline";
import type { Point, Worker } from "../api/types";

export function Overview() {
  if (points.value.length === 0) return <Empty>Waiting for the first second of data.</Empty>;
  return (
    <div class="grid">
      <Tiles />
      <Traffic />
      <Cores />
      <Drops />
      <Recent />
    </div>
  );
}

interface TileProps {
  title: string;
  value: string;
  note: string;
  color: Color;
  top?: number;
  of: (point: Point) => number;
}

function Tile({ title, value, note, color, top = 0, of }: TileProps) {
  const [number, ...unit] = value.split(" ");
  return (
    <section class="card tile" aria-label={title}>
      <h2>{title}</h2>
      <p class="figure">
        {number} <span>{unit.join(" ")}</span>
      </p>
      <p class="dim">{note}</p>
      <Chart bare label={`${title} over ten minutes`} height={44} top={top} format={scaled} lines={[{ label: title, color, fill: true, value: of }]} />
    </section>
  );
}

function Tiles() {
  const point = now.value;
  if (point === undefined) return null;
  const all = status.value;
  const pods = all?.ports.filter((port) => port.id !== 0).length ?? 0;
  const cores = all?.workers.length ?? 0;
  return (
    <div class="tiles">
      <Tile title="Throughput" value={bits(carried(point))} note={plural(pods, "pod")} color="a" top={1e6} of={carried} />
      <Tile title="Packets" value={packets(frames(point))} note="superframes count once" color="b" top={1000} of={frames} />
      <Tile title="Busiest core" value={percent(load(point))} note={`of ${plural(cores, "worker")}`} color="c" top={1} of={load} />
      <Tile title="Drops" value={scaled(point.dropped, "/s")} note={point.dropped > 0 ? (drops(all, point)[0]?.reason ?? "") : "nothing is dropped"} color="bad" top={10} of={(p) => p.dropped} />
      <Tile title="Flow entries" value={scaled(point.flows)} note={`${scaled(point.new_flows)} new a second`} color="d" top={10} of={(p) => p.flows} />
    </div>
  );
}

function Traffic() {
  const all = status.value;
  const of = (roles: string[], kind: 0 | 1) => (point: Point) => ofRoles(point, all, roles, kind);
  return (
    <Card title="Traffic" note="up to ten minutes" class="wide">
      <Chart
        label="Traffic over ten minutes"
        height={230}
        format={bits}
        top={1e6}
        lines={[
          { label: "from pods", color: "a", fill: true, value: of(["pod"], 0) },
          { label: "to pods", color: "b", value: of(["pod"], 1) },
          { label: "from the wire", color: "c", value: of(["uplink"], 0) },
          { label: "to the wire", color: "d", value: of(["uplink"], 1) },
        ]}
      />
    </Card>
  );
}

function Cores() {
  const workers = status.value?.workers ?? [];
  return (
    <div class="cores">
      {workers.map((worker, index) => (
        <Core key={worker.id} worker={worker} index={index} />
      ))}
    </div>
  );
}

function Core({ worker, index }: { worker: Worker; index: number }) {
  const rates = now.value?.workers[index];
  const turns = histogram(points.value, index, "turn_durations");
  const bursts = histogram(points.value, index, "burst_sizes");
  const title = worker.pinned ? `Core ${worker.core}` : `Worker ${worker.id}`;
  return (
    <Card title={title} note={worker.pinned ? `worker ${worker.id}` : "on any core"}>
      <div class="core">
        <Gauge share={rates?.load ?? 0} />
        <dl class="facts">
          <Fact name="carries" value={bits(rates?.bps ?? 0)} />
          <Fact name="packets" value={packets(rates?.pps ?? 0)} />
          <Fact name="per burst" value={scaled(Math.round((rates?.burst ?? 0) * 10) / 10)} />
        </dl>
      </div>
      <Chart
        label={`Load of ${title} over ten minutes`}
        height={90}
        top={1}
        format={percent}
        lines={[{ label: "load", color: "c", fill: true, value: (point) => point.workers[index]?.load ?? null }]}
      />
      <div class="pair">
        <figure>
          <figcaption>Time of a burst</figcaption>
          <Histogram label={`Time of a burst, ${title}`} classes={durationClasses(turns.length)} counts={turns} />
        </figure>
        <figure>
          <figcaption>Packets in a burst</figcaption>
          <Histogram label={`Packets in a burst, ${title}`} classes={burstClasses(bursts.length)} counts={bursts} />
        </figure>
      </div>
      <Stages worker={worker} />
    </Card>
  );
}

/** Where a packet's time goes, stage by stage. */
function Stages({ worker }: { worker: Worker }) {
  const stages = (worker.stages ?? []).filter((stage) => stage.packets > 0);
  const costs = stages.map(({ stage, ns, packets: count }) => ({ stage, cost: ns / count }));
  const sum = costs.reduce((total, { cost }) => total + cost, 0);
  if (sum === 0) return null;
  return (
    <figure>
      <figcaption>
        {nanoseconds(sum)} a packet, by stage; a superframe counts once
      </figcaption>
      <ol class="stages">
        {costs.map(({ stage, cost }) => (
          <li key={stage} style={{ flexGrow: cost }} title={`${stage}: ${nanoseconds(cost)} a packet`}>
            {cost / sum > 0.08 && <span>{stage}</span>}
          </li>
        ))}
      </ol>
    </figure>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** Length of the gauge's arc: three quarters of a circle with radius 40. */
const ARC = 2 * Math.PI * 40 * 0.75;

function Gauge({ share }: { share: number }) {
  const level = share > 0.9 ? "high" : share > 0.7 ? "raised" : "";
  return (
    <svg class={`gauge ${level}`} viewBox="0 0 100 92" role="img" aria-label={`Load ${percent(share)}`}>
      <path d="M21.7 78.3A40 40 0 1 1 78.3 78.3" />
      <path class="value" d="M21.7 78.3A40 40 0 1 1 78.3 78.3" stroke-dasharray={`${ARC * Math.min(share, 1)} 999`} />
      <text x="50" y="56">
        {percent(share)}
      </text>
      <text class="small" x="50" y="74">
        load
      </text>
    </svg>
  );
}

function Drops() {
  const list = drops(status.value, now.value);
  return (
    <Card title="Drops by reason" note="a second, and in all">
      {list.length === 0 ? <Empty>No frame was dropped since the dataplane was started.</Empty> : <DropTable list={list} />}
    </Card>
  );
}

function DropTable({ list }: { list: Drop[] }) {
  const highest = Math.max(...list.map((drop) => drop.perSecond), 1);
  return (
    <table class="bars">
      <tbody>
        {list.slice(0, 12).map((drop) => (
          <tr key={drop.reason} class={drop.perSecond > 0 ? "" : "quiet"}>
            <th scope="row">
              {drop.reason}
              <span class="dim">{drop.meaning}</span>
            </th>
            <td class="bar">
              <i style={{ width: `${(drop.perSecond / highest) * 100}%` }} />
            </td>
            <td class="number">{drop.perSecond > 0 ? scaled(drop.perSecond, "/s") : ""}</td>
            <td class="number dim">{scaled(drop.count)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Recent() {
  const last = events.value.slice(-8).reverse();
  return (
    <Card
      title="What changed"
      note={
        <button
          type="button"
          class="link"
          onClick={() => {
            show("timeline");
          }}
        >
          all of it
        </button>
      }
    >
      {last.length === 0 ? <Empty>Nothing has changed since {clock(points.value[0]?.at ?? Date.now())}.</Empty> : <EventList list={last} />}
    </Card>
  );
}
