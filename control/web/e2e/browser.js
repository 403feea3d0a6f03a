// Debian's Chromium, driven without a display.

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** @returns {Promise<import("playwright-core").Browser>} */
export function launch() {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
}

/**
 * A page that notes what must not happen: errors on the console, requests to anybody but the agent.
 *
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 * @param {"light" | "dark"} colorScheme
 * @param {string[]} faults
 */
export async function open(browser, url, colorScheme, faults) {
  // The lab's authority is nobody's but the lab's.
  const context = await browser.newContext({
    colorScheme,
    viewport: { width: 1440, height: 1000 },
    deviceScaleFactor: 1,
    ignoreHTTPSErrors: true,
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`error on the page: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !lostConnection(message)) faults.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) faults.push(`foreign request: ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

/**
 * The browser itself reports a fetch that fails; while the agent is dead or the token wrong that is as it should be.
 *
 * @param {import("playwright-core").ConsoleMessage} message
 */
function lostConnection(message) {
  return message.location().url.includes("/api/v1/stream") && /net::ERR_|status of (401|5)/.test(message.text());
}
