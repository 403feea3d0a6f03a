import { clock } from "../format";
import { standing } from "../rates";
import { link, points, problem, status } from "../state";

/** What needs attention, in words. */
export function Notices() {
  const at = link.value;
  const warnings = status.value?.warnings ?? [];
  return (
    <div aria-live="polite">
      {at.state === "lost" && (
        <p class="notice bad" role="alert">
          <b>No connection to the agent</b> since {clock(at.since)}: {at.why}. What you see is what was known then; packets
          do not need the agent. Trying again every second.
        </p>
      )}
      {at.state === "live" && problem.value !== null && (
        <p class="notice bad" role="alert">
          <b>The dataplane does not answer.</b> Pods of this node have no network until it runs again; the node’s own traffic
          goes on. {problem.value}
        </p>
      )}
      {at.state === "live" && <Standing />}
      {warnings.length > 0 && (
        <details class="notice warn">
          <summary>
            <b>{warnings.length === 1 ? "1 warning" : `${warnings.length} warnings`}</b> {warnings[0]}
          </summary>
          <ul>
            {warnings.slice(1).map((warning) => (
              <li key={warning}>{warning}</li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

/** Workers that do nothing any more while the dataplane answers. */
function Standing() {
  const workers = status.value?.workers ?? [];
  return standing(points.value).map((index) => (
    <p key={index} class="notice bad" role="alert">
      <b>Worker {workers[index]?.id ?? index} stands still</b> on core {workers[index]?.core ?? "?"}: nothing that comes to its queues is
      carried. Something keeps it off its core, or it hangs; starting headrace-dataplane again loses no connection.
    </p>
  ));
}
