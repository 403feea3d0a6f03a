// Pictures of every view in both themes: node screenshots.js URL FOLDER

import { launch, open } from "./browser.js";

const VIEWS = ["overview", "ports", "connections", "services", "topology", "timeline"];
const [url, folder] = process.argv.slice(2);
if (url === undefined || folder === undefined) throw new Error("usage: node screenshots.js URL FOLDER");
/** @type {string[]} */
const faults = [];

const browser = await launch();
for (const theme of /** @type {const} */ (["light", "dark"])) {
  const page = await open(browser, url, theme, faults);
  for (const view of VIEWS) {
    await page.goto(`${url}#${view}`);
    await page.getByRole("status").getByText("live").waitFor();
    // The next seconds bring rates: they need two looks.
    await page.waitForTimeout(3500);
    await page.screenshot({ path: `${folder}/${view}-${theme}.png`, fullPage: view === "overview" });
  }
}
await browser.close();
if (faults.length > 0) throw new Error(faults.join("\n"));
