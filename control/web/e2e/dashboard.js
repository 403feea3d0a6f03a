// The dashboard with a real node behind it. tests/tests/dashboard.rs starts this and does what it is asked (ask.js). Exit
// status 0 = all as it should be.

import assert from "node:assert/strict";

import { ask, LIMIT } from "./ask.js";
import { launch, open } from "./browser.js";

const [url] = process.argv.slice(2);
assert(url, "usage: node dashboard.js URL");
const faults = [];

const browser = await launch();
try {
  for (const theme of /** @type {const} */ (["light", "dark"])) await looks(theme);
  const page = await open(browser, url, "dark", faults);
  await numbersMove(page);
  await searchWorks(page);
  await keyboardWorks(page);
  await standingWorkerShows(page);
  await deadDataplaneShows(page);
  await deadAgentShows(page);
  assert.deepEqual(faults, []);
  console.log("all as it should be");
} finally {
  await browser.close();
}
// Standard input stays open and would keep the process.
process.exit(0);

/** @param {"light" | "dark"} theme */
async function looks(theme) {
  const page = await open(browser, url, theme, faults);
  await page.getByText("this node only").waitFor(LIMIT);
  await page.getByRole("status").getByText("live").waitFor(LIMIT);
  const shown = await page.evaluate(() => document.documentElement.dataset["theme"]);
  assert.equal(shown, theme, "the system's theme is followed");
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const brightness = Number(/\d+/.exec(background)?.[0]);
  assert(theme === "dark" ? brightness < 60 : brightness > 200, `${theme}: ${background}`);
  await page.keyboard.press("t");
  await page.waitForFunction((before) => document.documentElement.dataset["theme"] !== before, theme, LIMIT);
  await page.context().close();
}

/** @param {import("playwright-core").Page} page */
async function numbersMove(page) {
  const tile = page.getByRole("region", { name: "Throughput", exact: true });
  await tile.waitFor(LIMIT);
  await ask("start traffic");
  await tile.getByText(/[GM]bit\/s/).waitFor(LIMIT);
  const bursts = page.getByRole("list", { name: /Packets in a burst/ }).first();
  await bursts.getByRole("listitem").first().waitFor(LIMIT);
  await page.getByRole("img", { name: /^Load (< |[1-9])/ }).first().waitFor(LIMIT);
}

/** @param {import("playwright-core").Page} page */
async function searchWorks(page) {
  await page.keyboard.press("3");
  const table = page.getByRole("region", { name: "Table of connections" });
  await table.getByText("5201").first().waitFor(LIMIT);
  await page.keyboard.press("/");
  await page.keyboard.type("tcp and port 5201");
  await table.getByText("5201").first().waitFor(LIMIT);
  await page.getByRole("searchbox").fill("udp and port 1");
  await page.getByText("No connection matches.").waitFor(LIMIT);
  await page.getByRole("searchbox").fill("port nonsense");
  await page.locator("pre.notice").waitFor(LIMIT);
  await page.getByRole("searchbox").fill("");
  await table.getByText("5201").first().waitFor(LIMIT);
}

/** @param {import("playwright-core").Page} page */
async function keyboardWorks(page) {
  await page.getByRole("searchbox").focus();
  await page.keyboard.press("Escape");
  const seen = [
    ["2", "Ports"],
    ["4", "Services"],
    ["5", "Topology"],
    ["6", "Timeline of table updates"],
  ];
  for (const [key, title] of seen) {
    await page.keyboard.press(String(key));
    await page.getByRole("heading", { name: title }).waitFor(LIMIT);
  }
  await page.keyboard.press("4");
  await page.getByText("default/web").first().waitFor(LIMIT);
  await ask("connect to the Service");
  await page.getByText(/[1-9]\d* begun/).waitFor(LIMIT);
  await page.keyboard.press("5");
  const tunnel = page.locator("svg.topology g.box", { hasText: "node2," });
  await tunnel.locator("text.end", { hasText: "bit/s" }).waitFor(LIMIT);
  await page.keyboard.press("2");
  await page.getByText("default/node1-pod1").first().waitFor(LIMIT);
  await page.reload();
  await page.keyboard.press("Tab");
  const focused = await page.evaluate(() => document.activeElement?.textContent);
  assert.equal(focused, "Skip to content", "the first stop of the Tab key");
  await page.keyboard.press("1");
}

/** @param {import("playwright-core").Page} page */
async function standingWorkerShows(page) {
  await ask("hold worker");
  const alert = page.getByRole("alert").filter({ hasText: "worker 0 stands still" });
  await alert.waitFor(LIMIT);
  await page.keyboard.press("6");
  const timeline = page.getByRole("region", { name: "Timeline of table updates" });
  const told = timeline.getByRole("listitem").filter({ hasText: "worker 0 stands still" });
  await told.filter({ hasNotText: "no longer" }).first().waitFor(LIMIT);
  // The others, and who tells of it, go on.
  await page.getByRole("status").getByText("live").waitFor(LIMIT);
  await ask("release worker");
  await alert.waitFor({ ...LIMIT, state: "hidden" });
  await told.filter({ hasText: "no longer" }).first().waitFor(LIMIT);
  await page.keyboard.press("1");
}

/** @param {import("playwright-core").Page} page */
async function deadDataplaneShows(page) {
  await ask("kill dataplane");
  const alert = page.getByRole("alert").filter({ hasText: "The dataplane does not answer." });
  await alert.waitFor(LIMIT);
  await page.getByRole("status").getByText("dataplane away").waitFor(LIMIT);
  await ask("start dataplane");
  await alert.waitFor({ ...LIMIT, state: "hidden" });
}

/** @param {import("playwright-core").Page} page */
async function deadAgentShows(page) {
  await ask("kill agent");
  await page.getByRole("alert").filter({ hasText: "No connection to the agent" }).waitFor(LIMIT);
  await page.getByRole("status").getByText("disconnected").waitFor(LIMIT);
  await ask("start agent");
  await page.getByRole("status").getByText("live").waitFor(LIMIT);
}
