// The dashboard of a cluster: every node from one of them, over TLS and with a token. tests/tests/dashboard.rs starts this
// as `node cluster.js URL TOKEN` and does what it is asked on standard output, as for dashboard.js.

import assert from "node:assert/strict";

import { ask, LIMIT } from "./ask.js";
import { launch, open } from "./browser.js";

const [url, token] = process.argv.slice(2);
assert(url !== undefined && token !== undefined, "usage: node cluster.js URL TOKEN");
/** @type {string[]} */
const faults = [];

const browser = await launch();
try {
  const page = await open(browser, url, "light", faults);
  await tokenIsAsked(page);
  await otherNodeIsShown(page);
  await deadNodeShows(page);
  assert.deepEqual(faults, []);
  console.log("all as it should be");
} finally {
  await browser.close();
}
// Standard input stays open and would keep the process.
process.exit(0);

/** @param {import("playwright-core").Page} page */
async function tokenIsAsked(page) {
  const field = page.getByLabel(/^Token/);
  await field.fill("not the token, but as long as one has to be");
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("alert").filter({ hasText: "does not take this token" }).waitFor(LIMIT);
  await field.fill(token ?? "");
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("status").getByText("live").waitFor(LIMIT);
  assert(!page.url().includes(token ?? ""), "the token stands in no address");
}

/** @param {import("playwright-core").Page} page */
async function otherNodeIsShown(page) {
  await page.keyboard.press("5");
  const nodes = page.getByRole("region", { name: "Table of nodes" });
  await nodes.getByRole("button", { name: "node2" }).click(LIMIT);
  await page.getByRole("status").getByText("live").waitFor(LIMIT);
  await page.keyboard.press("2");
  await page.getByText("default/node2-pod1").first().waitFor(LIMIT);
  assert.equal(await page.getByRole("combobox").inputValue(), "node2");
  await page.getByRole("combobox").selectOption("node1");
  await page.getByText("default/node1-pod1").first().waitFor(LIMIT);
}

/** @param {import("playwright-core").Page} page */
async function deadNodeShows(page) {
  await page.keyboard.press("5");
  await ask("kill agent of node2");
  const row = page.getByRole("region", { name: "Table of nodes" }).getByRole("row").filter({ hasText: "node2" });
  await row.getByText(/refused|no answer|reset/i).waitFor(LIMIT);
  await ask("start agent of node2");
  await row.getByText("172.30.0.2").waitFor(LIMIT);
}
