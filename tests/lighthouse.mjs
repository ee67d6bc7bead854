// Runs Lighthouse on pages, each in a Chromium without a history, and prints their reports.
// Takes { chromium, options, categories, pages: [{ address, headers }] } as JSON from its input.

import { text } from "node:stream/consumers";
import { launch } from "chrome-launcher";
import lighthouse from "lighthouse";

const PATIENCE = 60_000; // milliseconds for a page

const { chromium, options, categories, pages } = JSON.parse(await text(process.stdin));

async function report({ address, headers }) {
  const browser = await launch({ chromePath: chromium, chromeFlags: options, logLevel: "error" });
  const deadline = setTimeout(() => {
    browser.kill();
    process.exit(1);
  }, PATIENCE);
  try {
    const result = await lighthouse(address, {
      port: browser.port,
      extraHeaders: headers,
      onlyCategories: categories,
      disableFullPageScreenshot: true,
      logLevel: "error",
    });
    return result.lhr;
  } finally {
    browser.kill();
    clearTimeout(deadline);
  }
}

const reports = [];
for (const page of pages) reports.push(await report(page));
console.log(JSON.stringify(reports));
