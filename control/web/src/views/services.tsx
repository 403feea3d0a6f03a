import type { Endpoint, Section, Service } from "../api/types";
import { plural, scaled } from "../format";
import { search } from "../preferences";
import { services, status } from "../state";
import { Card, Empty } from "../ui/card";
import { Search } from "../ui/search";

export function Services() {
  const section = services.value;
  return (
    <Card title="Services" note={note(section)}>
      <Search label="Search Services" hint="part of a name" problem={section?.problem} />
      <Content section={section} />
    </Card>
  );
}

function note(section: Section<Service> | null): string {
  const known = status.value;
  if (section?.problem !== null || known === null) return "";
  const all = `${plural(known.services, "Service port")}, ${plural(known.endpoints, "endpoint")}`;
  return section.list.length < section.found ? `${all}; ${section.list.length} of ${section.found} are shown` : all;
}

function Content({ section }: { section: Section<Service> | null }) {
  if (section === null) return <Empty>Waiting for the list.</Empty>;
  if (section.problem !== null) return <p class="notice bad">{section.problem}</p>;
  if (section.list.length === 0) {
    return <Empty>{search.value === "" ? "There is no Service." : `No Service has “${search.value}” in its name.`}</Empty>;
  }
  return (
    <ul class="services">
      {section.list.map((service) => (
        <One key={service.name} service={service} />
      ))}
    </ul>
  );
}

function One({ service }: { service: Service }) {
  const most = Math.max(...service.endpoints.map((endpoint) => endpoint.begun), 1);
  return (
    <li>
      <div class="front">
        <h3>{service.name}</h3>
        <p class="mono dim">{service.frontends.join(", ")}</p>
        <p class="figure small">
          {scaled(service.active)} <span>open, {scaled(service.begun)} begun</span>
        </p>
      </div>
      {service.endpoints.length === 0 ? (
        <p class="notice warn">No endpoint: connections are refused.</p>
      ) : (
        <ul class="endpoints">
          {service.endpoints.map((endpoint) => (
            <Destination key={endpoint.address} endpoint={endpoint} most={most} />
          ))}
          {service.more_endpoints > 0 && <li class="dim">and {plural(service.more_endpoints, "endpoint")} more</li>}
        </ul>
      )}
    </li>
  );
}

function Destination({ endpoint, most }: { endpoint: Endpoint; most: number }) {
  return (
    <li>
      <span class="mono">{endpoint.address}</span>
      <span class="dim">{endpoint.place}</span>
      <span class="bar" title={`${plural(endpoint.begun, "connection")} begun, ${endpoint.active} open`}>
        <i style={{ width: `${(endpoint.begun / most) * 100}%` }} />
      </span>
      <span class="number">
        {scaled(endpoint.begun)} <span class="dim">({endpoint.active} open)</span>
      </span>
    </li>
  );
}
