import { duration } from "../format";
import { nextTheme, show, shownTheme, type View, view, VIEWS } from "../preferences";
import { choose, cluster, link, nodes, ownNode, problem, shownNode, status } from "../state";

const TITLES: Record<View, string> = {
  overview: "Overview",
  ports: "Ports",
  connections: "Connections",
  services: "Services",
  topology: "Topology",
  timeline: "Timeline",
};

export function Header() {
  return (
    <header>
      <div class="top">
        <div class="brand">
          <img src="/icon.svg" alt="" width="28" height="28" />
          <span>Headrace</span>
        </div>
        <Scope />
        <span class="spring" />
        <Health />
        <button type="button" class="quiet" onClick={nextTheme} title="Change the theme (t)">
          {shownTheme.value === "dark" ? "Light" : "Dark"}
        </button>
      </div>
      <nav aria-label="Views">
        {VIEWS.map((name, index) => (
          <button
            key={name}
            type="button"
            aria-current={view.value === name ? "page" : undefined}
            onClick={() => {
              show(name);
            }}
          >
            {TITLES[name]} <kbd aria-hidden="true">{index + 1}</kbd>
          </button>
        ))}
      </nav>
    </header>
  );
}

/** Which node, and whether there is more to see. */
function Scope() {
  if (!cluster.value || nodes.value.length < 2) {
    return (
      <span class="scope" title="For the whole cluster: a node address, a token, TLS and --http-ca (headrace-agent --help)">
        <b>{shownNode.value === "" ? "…" : shownNode.value}</b> <span class="dim">this node only</span>
      </span>
    );
  }
  return (
    <label class="scope">
      <span class="dim">Node</span>
      <select
        value={shownNode.value}
        onChange={(event) => {
          choose(event.currentTarget.value);
        }}
      >
        {[...nodes.value]
          .sort((a, b) => a.name.localeCompare(b.name))
          .map((node) => (
            <option key={node.name} value={node.name}>
              {node.name}
              {node.name === ownNode.value ? " (serves this page)" : ""}
              {node.problem === "" ? "" : " – does not answer"}
            </option>
          ))}
      </select>
    </label>
  );
}

function Health() {
  const at = link.value;
  const [kind, text] =
    at.state === "live"
      ? problem.value === null
        ? ["good", "live"]
        : ["bad", "dataplane away"]
      : at.state === "lost"
        ? ["bad", "disconnected"]
        : ["wait", "connecting"];
  const uptime = status.value === null ? "" : `dataplane ${status.value.version}, up ${duration(status.value.uptime_seconds)}`;
  return (
    <span class="health">
      <span class="dim wide">{uptime}</span>
      <span class={`pill ${kind}`} role="status">
        <i />
        {text}
      </span>
    </span>
  );
}
