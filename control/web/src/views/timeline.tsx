import type { HappenedEvent } from "../api/types";
import { clock, plural } from "../format";
import { events, status } from "../state";
import { Card, Empty } from "../ui/card";

const KINDS: Record<HappenedEvent["kind"], string> = {
  tables: "tables",
  ports: "pods",
  peers: "nodes",
  daemons: "daemons",
  warning: "warning",
  solved: "solved",
};

export function Timeline() {
  const tables = status.value;
  const note =
    tables === null
      ? ""
      : `now ${plural(tables.services, "Service")}, ${plural(tables.endpoints, "endpoint")}`;
  return (
    <Card title="Timeline of table updates" note={note}>
      {events.value.length === 0 ? (
        <Empty>Nothing has changed since the agent was started.</Empty>
      ) : (
        <EventList list={[...events.value].reverse()} />
      )}
    </Card>
  );
}

export function EventList({ list }: { list: readonly HappenedEvent[] }) {
  return (
    <ol class="events">
      {list.map((event, index) => (
        <li key={`${event.at} ${index} ${event.text}`} class={event.kind}>
          <time dateTime={new Date(event.at).toISOString()}>{clock(event.at)}</time>
          <span class="kind">{KINDS[event.kind]}</span>
          <span>{event.text}</span>
        </li>
      ))}
    </ol>
  );
}
