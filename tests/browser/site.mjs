// node site.mjs HOME CHROMIUM SITE FOLDER: opens the built site, searches it, prints what it sees as one JSON object,
// and leaves pictures in the folder.
import { createRequire } from "node:module";
import { join } from "node:path";

const [home, executablePath, site, folder] = process.argv.slice(2);
const { chromium } = createRequire(join(home, "package.json"))("playwright-core");
const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox"] });
const seen = { elsewhere: [], complaints: [] };
try {
  const page = await browser.newPage({ viewport: { width: 1300, height: 900 } });
  page.setDefaultTimeout(60_000);
  page.on("request", (request) => request.url().startsWith(site) || seen.elsewhere.push(request.url()));
  page.on("console", (message) => message.type() === "error" && seen.complaints.push(message.text()));
  await page.goto(`${site}/api/chat_completion.html`);
  seen.heading = await page.locator("h1").first().innerText();
  await page.screenshot({ path: join(folder, "page.png") });
  await page.keyboard.press("Control+k");
  await page.keyboard.type("structured_outputs", { delay: 20 });
  const results = page.getByText(/^\d+ results?$/);
  await results.waitFor();
  seen.results = Number.parseInt(await results.innerText());
  await page.screenshot({ path: join(folder, "search.png") });
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
