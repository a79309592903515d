// The cases, as a page of another origin runs them. Each one throws if the gateway is not readable from a browser.
import { OpenAI, Anthropic } from "/sdks.js";

const MODEL = "chat-m";
const HELLO = [{ role: "user", content: "Hello!" }];
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

function check(condition, what) {
  if (!condition) throw new Error(`expected: ${what}`);
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected: an error");
}

function readable(error, status, words, type) {
  check(error.status === status, `status ${status}, not ${error.status} (${error})`);
  check(String(error.message).includes(words), `a message with ${words}, not ${error.message}`);
  check(error instanceof type, `${type.name}, not ${error.constructor.name}`);
  check(UUID.test(error.headers.get("x-request-id")), "a readable x-request-id");
}

async function collect(stream) {
  const found = [];
  for await (const one of stream) found.push(one);
  return found;
}

export function cases({ root, key }) {
  const options = { baseURL: `${root}/v1`, apiKey: key, dangerouslyAllowBrowser: true, maxRetries: 0 };
  const openai = new OpenAI(options);
  const anthropic = new Anthropic({ ...options, baseURL: root });
  const chat = { model: MODEL, messages: HELLO, max_tokens: 8 };

  return {
    async openai_whole_answer() {
      const { data, response } = await openai.chat.completions.create(chat).withResponse();
      check(data.choices[0].message.content, "content");
      check(UUID.test(data._request_id), "a request id");
      check(response.headers.get("openai-processing-ms") !== null, "a readable openai-processing-ms");
    },
    async openai_stream() {
      const chunks = await collect(await openai.chat.completions.create({ ...chat, stream: true }));
      check(chunks.length > 2 && chunks.at(-1).choices[0].finish_reason, "chunks to the end");
    },
    async openai_responses_stream() {
      const events = await collect(await openai.responses.create({ model: MODEL, input: "Hello!", stream: true }));
      check(["response.completed", "response.incomplete"].includes(events.at(-1).type), "the last event");
    },
    async openai_stream_helper() {
      const made = await openai.chat.completions.stream(chat).finalChatCompletion();
      check(made.choices[0].message.content, "content");
    },
    async openai_models_and_embeddings() {
      check((await openai.models.list()).data.length > 1, "models");
      const made = await openai.embeddings.create({ model: "emb-m", input: "Hello!" });
      check(made.data[0].embedding.length > 1, "a vector");
    },
    async openai_upload() {
      const file = new File([new Uint8Array(2000)], "a.wav", { type: "audio/wav" });
      check((await openai.audio.transcriptions.create({ model: "asr-m", file })).text, "a transcript");
    },
    async openai_stored_response_is_read_cancelled_and_deleted() {
      const error = await failure(openai.responses.delete("resp_nope"));
      readable(error, 404, "not found", OpenAI.NotFoundError);
    },
    async openai_header_that_nobody_knows_yet() {
      const client = new OpenAI({ ...options, defaultHeaders: { "X-Of-A-Later_SDK": "1", "x-trace.id~1": "2" } });
      check((await client.chat.completions.create(chat)).id, "an answer");
    },
    async openai_abort_in_a_stream() {
      const stream = await openai.chat.completions.create({ ...chat, max_tokens: 200, stream: true });
      for await (const _ of stream) break;
      check(stream.controller.signal.aborted, "an aborted request");
    },
    async openai_unknown_model() {
      const error = await failure(openai.chat.completions.create({ ...chat, model: "nope" }));
      readable(error, 404, "does not exist", OpenAI.NotFoundError);
    },
    async openai_unknown_model_streamed() {
      const error = await failure(openai.chat.completions.create({ ...chat, model: "nope", stream: true }));
      readable(error, 404, "does not exist", OpenAI.NotFoundError);
    },
    async openai_engine_refuses() {
      const error = await failure(openai.chat.completions.create({ ...chat, temperature: -1 }));
      readable(error, 400, "temperature", OpenAI.BadRequestError);
    },
    async openai_wrong_key() {
      const error = await failure(new OpenAI({ ...options, apiKey: "sk-wrong" }).models.list());
      readable(error, 401, "Incorrect API key", OpenAI.AuthenticationError);
    },
    async openai_too_large_a_body() {
      const content = "x".repeat(400_000);
      const error = await failure(openai.chat.completions.create({ ...chat, messages: [{ role: "user", content }] }));
      readable(error, 413, "too large", OpenAI.APIError);
    },
    async openai_too_large_headers() {
      const client = new OpenAI({ ...options, defaultHeaders: { "x-big": "a".repeat(70_000) } });
      const error = await failure(client.chat.completions.create(chat));
      readable(error, 431, "headers", OpenAI.APIError);
    },
    async openai_no_engine_can_be_reached() {
      const error = await failure(openai.chat.completions.create({ ...chat, model: "dead-m" }));
      check(error.status === 503, `a 503, not ${error}`);
      readable(error, 503, "engine", OpenAI.InternalServerError);
      check(error.headers.get("retry-after") !== null, "a readable retry-after");
    },
    async anthropic_whole_answer() {
      const made = await anthropic.messages.create(chat);
      check(made.content[0].text, "content");
    },
    async anthropic_stream() {
      const made = await anthropic.messages.stream(chat).finalMessage();
      check(made.stop_reason, "the end of the message");
    },
    async anthropic_count_tokens() {
      const counted = await anthropic.messages.countTokens({ model: MODEL, messages: HELLO });
      check(counted.input_tokens > 0, "tokens");
    },
    async anthropic_beta_headers() {
      const made = await anthropic.messages.create(chat, { headers: { "anthropic-beta": "a-b-2026-01-01" } });
      check(made.content[0].text, "content");
    },
    async anthropic_unknown_model() {
      const error = await failure(anthropic.messages.create({ ...chat, model: "nope" }));
      readable(error, 404, "does not exist", Anthropic.NotFoundError);
      check(error.error.error.type === "not_found_error", "Anthropic's own shape");
    },
    async anthropic_wrong_key() {
      const error = await failure(new Anthropic({ ...options, baseURL: root, apiKey: "sk-wrong" }).messages.create(chat));
      readable(error, 401, "Incorrect API key", Anthropic.AuthenticationError);
    },
    async away_openai_reads_why() {
      const error = await failure(openai.chat.completions.create(chat));
      readable(error, 503, "temporarily unavailable", OpenAI.InternalServerError);
      check(error.code === "gateway_unavailable", "the code");
      check(error.headers.get("retry-after") === "1", "a readable retry-after");
    },
    async away_openai_reads_why_of_a_list() {
      readable(await failure(openai.models.list()), 503, "temporarily unavailable", OpenAI.InternalServerError);
    },
    async away_anthropic_reads_why() {
      const error = await failure(anthropic.messages.create(chat));
      readable(error, 503, "temporarily unavailable", Anthropic.InternalServerError);
    },
  };
}
