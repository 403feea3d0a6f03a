import type { Flow, Section } from "../api/types";
import { bits, bytes, duration, plural } from "../format";
import { search } from "../preferences";
import { flows } from "../state";
import { Card, Empty } from "../ui/card";
import { Search } from "../ui/search";

const HINT = "tcp and port 443, host 10.244.1.7, pod default/web, service default/web:http, state established";

export function Connections() {
  const section = flows.value;
  return (
    <Card title="Connections" note={note(section)}>
      <Search label="Search connections" hint={HINT} problem={section?.problem} />
      <Content section={section} />
    </Card>
  );
}

function note(section: Section<Flow> | null): string {
  if (section?.problem !== null) return "";
  const found = section.more ? `more than ${section.found}` : String(section.found);
  return section.list.length < section.found
    ? `${found}; the busiest ${section.list.length} are shown`
    : plural(section.found, "connection");
}

function Content({ section }: { section: Section<Flow> | null }) {
  if (section === null) return <Empty>Waiting for the list.</Empty>;
  if (section.problem !== null) return <pre class="notice bad">{section.problem}</pre>;
  if (section.list.length === 0) {
    return <Empty>{search.value === "" ? "No connection is known: nothing was sent for a while." : "No connection matches."}</Empty>;
  }
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Table of connections">
      <table>
        <thead>
          <tr>
            <th scope="col">Client</th>
            <th scope="col">To</th>
            <th scope="col">State</th>
            <th scope="col">Way</th>
            <th scope="col" class="number">Rate</th>
            <th scope="col" class="number">In all</th>
            <th scope="col" class="number">Age</th>
          </tr>
        </thead>
        <tbody>
          {section.list.map((flow) => (
            <Row key={`${flow.protocol} ${flow.client} ${flow.destination}`} flow={flow} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ flow }: { flow: Flow }) {
  const translated = flow.server !== flow.destination;
  const server = [translated ? flow.server : "", flow.server_pod].filter((part) => part !== "");
  return (
    <tr class={flow.bps > 0 ? "" : "quiet"}>
      <th scope="row" class="mono">
        <span class="proto">{flow.protocol}</span> {flow.client}
        {flow.client_pod !== "" && <span class="dim">{flow.client_pod}</span>}
      </th>
      <td class="mono">
        {flow.service === "" ? flow.destination : flow.service}
        <span class="dim">
          {flow.service === "" ? "" : `${flow.destination} `}
          {server.length > 0 ? `→ ${server.join(" ")}` : ""}
        </span>
      </td>
      <td>
        <span class={`state ${flow.state}`}>{flow.state}</span>
      </td>
      <td>{flow.way}</td>
      <td class="number">{flow.bps > 0 ? bits(flow.bps) : "–"}</td>
      <td class="number">{bytes(flow.bytes)}</td>
      <td class="number" title={`last packet ${duration(flow.idle)} ago`}>
        {duration(flow.age)}
      </td>
    </tr>
  );
}
