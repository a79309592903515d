// node explorer.mjs HOME CHROMIUM EXPLORER KEY FOLDER: opens the explorer, calls the gateway with it, prints what it sees
// as one JSON object, and leaves pictures in the folder.
import { createRequire } from "node:module";
import { join } from "node:path";

const [home, executablePath, explorer, key, folder] = process.argv.slice(2);
const { chromium } = createRequire(join(home, "package.json"))("playwright-core");
const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox"] });
const seen = { elsewhere: [], complaints: [] };
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 1000 } });
  page.setDefaultTimeout(240_000); // a busy machine draws a hundred operations for a minute
  const own = new URL(explorer).origin;
  page.on("request", (request) => request.url().startsWith(own) || seen.elsewhere.push(request.url()));
  page.on("console", (message) => message.type() === "error" && !message.text().includes("status of 404") && seen.complaints.push(message.text()));
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  await page.goto(explorer);
  await page.locator(".opblock-summary").first().waitFor();
  seen.operations = await page.locator(".opblock-summary").count();
  await page.screenshot({ path: join(folder, "overview.png") });

  await page.getByRole("button", { name: "Authorize" }).first().click();
  const field = page.locator(".auth-container input").first();
  seen.prefilled = await field.inputValue();
  await field.fill(key);
  await page.locator(".auth-btn-wrapper button[type=submit]").first().click();
  await page.locator(".auth-btn-wrapper .btn-done").first().click();

  const call = async (path, body, name) => {
    const block = page.locator(".opblock", { has: page.locator(`[data-path="${path}"]`) }).first();
    await block.locator(".opblock-summary-control").click();
    await block.locator(".execute").waitFor();
    if (body) await block.locator("textarea").first().fill(JSON.stringify(body));
    await block.locator(".execute").click();
    const answer = block.locator(".live-responses-table .response");
    await answer.waitFor();
    const status = await answer.locator(".response-col_status").innerText();
    const text = await answer.locator(".highlight-code").first().innerText();
    await answer.scrollIntoViewIfNeeded();
    await page.screenshot({ path: join(folder, `${name}.png`) });
    return { status: status.trim(), text };
  };
  const chat = { model: "sim-chat", messages: [{ role: "user", content: "Say hello." }], max_tokens: 4 };
  seen.models = await call("/v1/models", null, "models");
  seen.chat = await call("/v1/chat/completions", chat, "chat");
  seen.refusal = await call("/v1/embeddings", { model: "nope", input: "a" }, "refusal");
  seen.stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
