// The acceptance cases marked with a star for openai-node; the same output as cases.py.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [directory, baseURL, apiKey, storedURL] = process.argv.slice(2);
const require = createRequire(`${directory}/`);
const { default: OpenAI, toFile } = await import(pathToFileURL(require.resolve("openai")));
const { version } = require(`${directory}/node_modules/openai/package.json`);

const messages = [{ role: "user", content: "hello" }];
const chat = { model: "chat-m", messages, max_tokens: 8, seed: 3 };
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });

// Of files, uploads and batches.
const stored = new OpenAI({ baseURL: storedURL, apiKey, maxRetries: 0, timeout: 20_000 });
const questions = ["one", "two", "three"]
  .map((custom_id) => JSON.stringify({ custom_id, method: "POST", url: "/v1/chat/completions", body: chat }))
  .join("\n");

async function ended(content) {
  const file = await stored.files.create({ file: await toFile(Buffer.from(content), "in.jsonl"), purpose: "batch" });
  const asked = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
  let batch = await stored.batches.create(asked);
  assert.equal(batch.status, "validating");
  const endsAt = Date.now() + 60_000;
  while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
    assert.ok(Date.now() < endsAt, JSON.stringify(batch));
    await new Promise((resolve) => setTimeout(resolve, 100));
    batch = await stored.batches.retrieve(batch.id);
  }
  return batch;
}

async function errorOf(kind, call) {
  const error = await call().then(
    () => assert.fail(`${kind.name} was not raised`),
    (raised) => raised,
  );
  assert.ok(error instanceof kind, String(error));
  assert.deepEqual(Object.keys(error.error).sort(), ["code", "message", "param", "type"]);
  assert.ok(error.code === null || typeof error.code === "string");
  assert.ok(error.requestID);
  return error;
}

async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

const cases = {
  async auth_02_wrong_key() {
    const wrong = new OpenAI({ baseURL, apiKey: "sk-wrong-0123456789abcdef", maxRetries: 0 });
    const error = await errorOf(OpenAI.AuthenticationError, () => wrong.models.list());
    assert.equal(error.code, "invalid_api_key");
  },
  async hdr_01_request_id() {
    const { data, request_id } = await client.chat.completions.create(chat).withResponse();
    assert.equal(data._request_id, request_id);
    assert.ok(request_id);
  },
  async req_07_unknown_model() {
    for (const stream of [false, true]) {
      const call = () => client.chat.completions.create({ ...chat, model: "nope", stream });
      const error = await errorOf(OpenAI.NotFoundError, call);
      assert.equal(error.code, "model_not_found");
      assert.match(error.message, /does not exist/);
    }
  },
  async req_14_context_length() {
    const long = [{ role: "user", content: "word ".repeat(4000) }];
    const call = () => client.chat.completions.create({ model: "org/chat-s", messages: long });
    const error = await errorOf(OpenAI.BadRequestError, call);
    assert.equal(error.code, "context_length_exceeded");
  },
  async chat_01_create() {
    const { choices, usage } = await client.chat.completions.create(chat);
    assert.ok(choices[0].message.content);
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  },
  async chat_02_stream() {
    const whole = await client.chat.completions.create(chat);
    const chunks = await collect(await client.chat.completions.create({ ...chat, stream: true }));
    const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(chunks.filter((chunk) => chunk.choices[0].finish_reason).length, 1);
  },
  async chat_03_stream_usage() {
    const asked = { ...chat, stream: true, stream_options: { include_usage: true } };
    const chunks = await collect(await client.chat.completions.create(asked));
    assert.equal(chunks.filter((chunk) => chunk.choices.length === 0).length, 1);
    assert.equal(chunks.at(-1).usage.completion_tokens, 8);
  },
  async comp_01_completions() {
    const completion = await client.completions.create({ model: "chat-m", prompt: ["one", "two"], max_tokens: 4 });
    assert.equal(completion.choices.length, 2);
  },
  async resp_01_create() {
    const response = await client.responses.create({ model: "chat-m", input: "hello" });
    assert.ok(response.output_text);
  },
  async resp_02_stream() {
    const events = await collect(await client.responses.create({ model: "chat-m", input: "hello", stream: true }));
    assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, index) => index));
    assert.equal(events.at(-1).type, "response.completed");
  },
  async emb_01_embeddings() {
    const found = await client.embeddings.create({ model: "emb-m", input: "hello" });
    assert.ok(Math.abs(found.data[0].embedding[0]) <= 1);
  },
  async aud_01_transcription_with_the_file_first() {
    const file = await toFile(new Uint8Array(4000), "a.wav");
    const found = await client.audio.transcriptions.create({ file, model: "asr-m" });
    assert.ok(found.text);
  },
  async mod_01_list() {
    const ids = (await collect(client.models.list())).map((card) => card.id);
    assert.ok(ids.includes("org/chat-s"));
  },
  async mod_02_retrieve_with_a_slash() {
    assert.equal((await client.models.retrieve("org/chat-s")).id, "org/chat-s");
  },
  async err_05_stream_cut_short() {
    const fault = { headers: { "x-sim-fault": "reset-mid-stream;after=3" } };
    const stream = await client.chat.completions.create({ ...chat, stream: true }, fault);
    await assert.rejects(collect(stream));
  },
  async file_02_12_13_create_content_delete() {
    const file = await toFile(Buffer.from(questions), "日本.jsonl");
    const made = await stored.files.create({ file, purpose: "batch" });
    assert.deepEqual([made.bytes, made.filename, made.status], [Buffer.byteLength(questions), "日本.jsonl", "processed"]);
    assert.equal((await stored.files.waitForProcessing(made.id)).status, "processed");
    assert.equal(await (await stored.files.content(made.id)).text(), questions);
    assert.equal((await stored.files.delete(made.id)).deleted, true);
    await errorOf(OpenAI.NotFoundError, () => stored.files.content(made.id));
  },
  async file_09_list_pages_by_itself() {
    const made = [];
    for (let count = 0; count < 5; count++) {
      const file = await toFile(Buffer.from("x"), "a.txt");
      made.push((await stored.files.create({ file, purpose: "user_data" })).id);
    }
    const listed = await collect(stored.files.list({ limit: 2, purpose: "user_data" }));
    assert.deepEqual(listed.map((one) => one.id).sort(), made.sort());
    for (const id of made) await stored.files.delete(id);
  },
  async upl_01_file_in_parts() {
    const bytes = Buffer.byteLength(questions);
    const given = { bytes, filename: "in.jsonl", mime_type: "application/jsonl", purpose: "batch" };
    const upload = await stored.uploads.create(given);
    const halves = [questions.slice(0, 100), questions.slice(100)];
    const parts = await Promise.all(
      halves.map(async (half) => stored.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(half), "p") })),
    );
    const done = await stored.uploads.complete(upload.id, { part_ids: parts.map((part) => part.id) });
    assert.equal(await (await stored.files.content(done.file.id)).text(), questions);
  },
  async bat_01_18_21_run_cancel_list() {
    const done = await ended(questions);
    assert.equal(done.status, "completed");
    assert.deepEqual(done.request_counts, { total: 3, completed: 3, failed: 0 });
    const rows = (await (await stored.files.content(done.output_file_id)).text()).trim().split("\n");
    assert.deepEqual(rows.map((row) => JSON.parse(row).custom_id), ["one", "two", "three"]);
    await errorOf(OpenAI.ConflictError, () => stored.batches.cancel(done.id));
    assert.ok((await collect(stored.batches.list({ limit: 1 }))).some((one) => one.id === done.id));
  },
  async bat_09_bad_line() {
    const done = await ended(`${questions}\n{bad`);
    assert.equal(done.status, "failed");
    assert.deepEqual(done.errors.data.map(({ code, line }) => [code, line]), [["invalid_json_line", 4]]);
  },
  async bat_20_unknown_batch() {
    await errorOf(OpenAI.NotFoundError, () => stored.batches.cancel("batch_unknown"));
  },
};

console.log(JSON.stringify({ version }));
for (const [name, run] of Object.entries(cases)) {
  let failure = null;
  try {
    await run();
  } catch (error) {
    failure = String(error.stack ?? error);
  }
  console.log(JSON.stringify({ case: name, failure }));
}
