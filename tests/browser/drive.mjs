// node drive.mjs HOME CHROMIUM ROOT KEY PREFIX: serves a page on another origin, runs its cases in the browser and prints
// one JSON line for each case whose name begins with one of the comma-separated prefixes.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [home, executablePath, root, key, prefixes] = process.argv.slice(2);
const { chromium } = createRequire(join(home, "package.json"))("playwright-core");
const files = {
  "/": ["text/html", "<!doctype html><title>cases</title>"],
  "/sdks.js": ["text/javascript", readFileSync(join(home, "sdks.js"))],
  "/page.js": ["text/javascript", readFileSync(new URL("page.js", import.meta.url))],
};
const server = createServer((request, response) => {
  const [type, body] = files[request.url] ?? [];
  response.writeHead(type ? 200 : 404, { "content-type": type ?? "text/plain" }).end(body);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const run = async ([given, wanted]) => {
    const { cases } = await import("/page.js");
    const results = [];
    for (const [name, go] of Object.entries(cases(given))) {
      if (!wanted.some((prefix) => name.startsWith(prefix))) continue;
      try {
        await go();
        results.push({ case: name, failure: null });
      } catch (error) {
        results.push({ case: name, failure: `${error} ${error.cause ?? ""}` });
      }
    }
    return results;
  };
  for (const result of await page.evaluate(run, [{ root, key }, prefixes.split(",")])) console.log(JSON.stringify(result));
} finally {
  await browser.close();
  server.close();
}
