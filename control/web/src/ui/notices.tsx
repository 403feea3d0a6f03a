import { clock } from "../format";
import { link, problem, status } from "../state";

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
