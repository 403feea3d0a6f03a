import type { Status } from "../api/types";
import { clock, plural } from "../format";
import { link, problem, status } from "../state";

/** Warnings that stand in full; there are seldom more. */
const SHOWN = 3;

/** Of the dataplane, of what it refuses, and of what the agent cannot use: as headracectl status has it. */
function attention({ warnings, last_refusals: refusals, agent_problems: agent }: Status): string[] {
  const refused = refusals.map(({ resource, field, reason }) => `refused: ${resource}: ${field}: ${reason}`);
  return [...warnings, ...refused, ...agent.map((problem) => `agent: ${problem}`)];
}

/** What needs attention, in words. */
export function Notices() {
  const at = link.value;
  const warnings = status.value === null ? [] : attention(status.value);
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
      {warnings.slice(0, SHOWN).map((warning) => (
        <p key={warning} class="notice warn" role="alert">
          {warning}
        </p>
      ))}
      {warnings.length > SHOWN && (
        <details class="notice warn">
          <summary>{plural(warnings.length - SHOWN, "warning")} more</summary>
          <ul>
            {warnings.slice(SHOWN).map((warning) => (
              <li key={warning}>{warning}</li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}
