// The other end of a script: tests/tests/dashboard.rs does what it is asked on standard output ("do: ..."); an empty line on
// standard input says that it is done, another one why not.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Time for what takes a second or two on a machine with other work. */
export const LIMIT = { timeout: 20_000 };

/** @param {string} action */
export async function ask(action) {
  console.log(`do: ${action}`);
  const answer = await answers.next();
  assert.equal(answer.value, "", `${action} failed`);
}
