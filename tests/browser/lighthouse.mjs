// Runs Lighthouse on pages, each in a Chromium without a history, and prints their reports.
// Takes { chromium, options, categories, pages: [{ address, headers }] } as JSON from its input.

import { text } from "node:stream/consumers";
import { launch } from "chrome-launcher";
import lighthouse from "lighthouse";

const PATIENCE = 120_000; // milliseconds for a page
const ATTEMPTS = 3;

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

// Now and then Chromium's trace lacks its beginning, and Lighthouse asks to be run again.
async function reportSurely(page) {
  let made = await report(page);
  for (let attempt = 1; made.runtimeError && attempt < ATTEMPTS; attempt += 1) {
    made = await report(page);
  }
  return made;
}

const reports = [];
for (const page of pages) reports.push(await reportSurely(page));
console.log(JSON.stringify(reports));
