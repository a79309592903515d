// Uses the types that openapi-typescript makes of the document: node client_cases.js ORIGIN KEY. TypeScript checks it
// strictly; an assertion says what is wrong with what comes.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Chunk = components["schemas"]["openai.ChatCompletionChunk"];
type Chat = components["schemas"]["openai.ChatCompletionRequest"];

const [origin, key] = process.argv.slice(2);
assert.ok(origin && key);
const client = createClient<paths, "application/json">({ baseUrl: origin, headers: { authorization: `Bearer ${key}` } });

const hello: Chat = { model: "chat", messages: [{ role: "user", content: "Say hello." }], max_tokens: 5 };

async function whole(): Promise<void> {
  const { data, error } = await client.POST("/v1/chat/completions", { body: hello });
  assert.ok(data, JSON.stringify(error));
  assert.equal(data.usage?.completion_tokens, 5);
  assert.equal(typeof data.choices[0]?.message.content, "string");
}

async function stream(): Promise<void> {
  const body: Chat = { ...hello, stream: true, stream_options: { include_usage: true } };
  const { data } = await client.POST("/v1/chat/completions", { body, parseAs: "stream" });
  assert.ok(data);
  let text = "";
  let tokens = 0;
  let rest = "";
  for await (const piece of data.pipeThrough(new TextDecoderStream())) {
    const events = (rest + piece).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const said = event.replace(/^data: /, "");
      if (said === "[DONE]") continue;
      const chunk = JSON.parse(said) as Chunk;
      text += chunk.choices[0]?.delta.content ?? "";
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
  }
  assert.equal(tokens, 5);
  assert.ok(text.length > 0);
}

async function failure(): Promise<void> {
  const { error, response } = await client.POST("/v1/chat/completions", { body: { ...hello, model: "nope" } });
  assert.equal(response.status, 404);
  assert.ok(error);
  assert.equal(error.error.code, "model_not_found");
}

async function embeddings(): Promise<void> {
  const { data } = await client.POST("/v1/embeddings", { body: { model: "vec", input: ["a", "b"] } });
  assert.deepEqual(data?.data.map((one) => one.index), [0, 1]);
}

async function batch(): Promise<void> {
  const lines = [1, 2, 3].map((number) =>
    JSON.stringify({ custom_id: `line-${number}`, method: "POST", url: "/v1/chat/completions", body: hello }),
  );
  const stored = await client.POST("/v1/files", {
    body: { purpose: "batch", file: "" },
    bodySerializer: () => {
      const form = new FormData();
      form.append("purpose", "batch");
      form.append("file", new Blob([lines.join("\n")]), "lines.jsonl");
      return form;
    },
  });
  const file = stored.data;
  assert.ok(file, JSON.stringify(stored.error));
  assert.equal(file.filename, "lines.jsonl");
  const made = await client.POST("/v1/batches", {
    body: { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" },
  });
  let found = made.data;
  assert.ok(found, JSON.stringify(made.error));
  const path = { batch_id: found.id };
  while (found.status !== "completed") {
    assert.ok(["validating", "in_progress", "finalizing"].includes(found.status), found.status);
    await new Promise((resolve) => setTimeout(resolve, 200));
    found = (await client.GET("/v1/batches/{batch_id}", { params: { path } })).data;
    assert.ok(found);
  }
  assert.equal(found.request_counts?.completed, 3);
  assert.ok(found.output_file_id);
  const output = await client.GET("/v1/files/{file_id}/content", {
    params: { path: { file_id: found.output_file_id } },
    parseAs: "text",
  });
  const results: string[] = String(output.data).trim().split("\n");
  assert.deepEqual(results.map((line) => JSON.parse(line).custom_id).sort(), ["line-1", "line-2", "line-3"]);
  for (const file_id of [file.id, found.output_file_id]) {
    const gone = await client.DELETE("/v1/files/{file_id}", { params: { path: { file_id } } });
    assert.equal(gone.data?.deleted, true);
  }
}

for (const step of [whole, stream, failure, embeddings, batch]) await step();
