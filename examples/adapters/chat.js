// A server of OpenAI's routes that knows nothing of hasup: Node's own http module, nothing else.
//
//   GET  /health
//   POST /v1/chat/completions   {"messages": …, "max_tokens", "seed", "stream"}
//   POST /v1/completions        {"prompt": …}
//
// Its "model" picks words by a hash of the prompt, the seed and the place.  The same request has the same answer, byte for
// byte: so a stream that another process finishes goes on where it stopped.
"use strict";
const crypto = require("crypto");
const http = require("http");

const WORDS = "the light of a lamp fell on this page and every word was read again by who came late".split(" ");
const PAUSE = Number(process.env.TOKEN_MS) || 0;

function token(asked, place) {
  const key = JSON.stringify([asked.messages || asked.prompt, asked.seed || 0, place]);
  return (place ? " " : "") + WORDS[crypto.createHash("sha256").update(key).digest()[0] % WORDS.length];
}

function wrong(asked, chat) {
  if (asked.n > 1) return ["n", "one answer to a request"];
  if (chat && !Array.isArray(asked.messages)) return ["messages", "expected a list"];
  if (!chat && typeof asked.prompt !== "string") return ["prompt", "expected a text"];
  return null;
}

function refuse(response, status, param, message) {
  say(response, status, { error: { message, type: "invalid_request_error", param, code: null } });
}

function say(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}

// `created` is the same for every run of a request, which is all that it is good for here.
function told(request, asked, chat, part) {
  const id = (chat ? "chatcmpl-" : "cmpl-") + (request.headers["x-request-id"] || "0");
  const object = chat ? (part ? "chat.completion.chunk" : "chat.completion") : "text_completion";
  return { id, object, created: 0, model: asked.model };
}

function usage(asked, count) {
  const prompt = JSON.stringify(asked.messages || asked.prompt).split(/\s+/).length;
  return { prompt_tokens: prompt, completion_tokens: count, total_tokens: prompt + count };
}

function whole(request, response, asked, chat, count) {
  let text = "";
  for (let place = 0; place < count; place++) text += token(asked, place);
  const choice = { index: 0, finish_reason: "length", logprobs: null };
  if (chat) choice.message = { role: "assistant", content: text };
  else choice.text = text;
  say(response, 200, { ...told(request, asked, chat), choices: [choice], usage: usage(asked, count) });
}

function stream(request, response, asked, chat, count) {
  let place = 0;
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const event = (choices, more) =>
    response.write(`data: ${JSON.stringify({ ...told(request, asked, chat, true), choices, ...more })}\n\n`);
  const step = () => {
    if (response.destroyed) return;
    const last = place === count;
    const choice = { index: 0, finish_reason: last ? "length" : null, logprobs: null };
    const text = last ? "" : token(asked, place);
    if (chat) choice.delta = last ? {} : place ? { content: text } : { role: "assistant", content: text };
    else choice.text = text;
    event([choice]);
    if (!last) {
      place += 1;
      setTimeout(step, PAUSE);
      return;
    }
    if (asked.stream_options && asked.stream_options.include_usage) event([], { usage: usage(asked, count) });
    response.end("data: [DONE]\n\n");
  };
  step();
}

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const chat = request.url === "/v1/chat/completions";
    let asked;
    if (request.url === "/health") return say(response, 200, {});
    if (!chat && request.url !== "/v1/completions") return refuse(response, 404, null, "there is no such path");
    try {
      asked = JSON.parse(Buffer.concat(parts).toString());
    } catch (error) {
      return refuse(response, 400, null, error.message);
    }
    const bad = wrong(asked, chat);
    if (bad) return refuse(response, 400, bad[0], `${bad[0]}: ${bad[1]}`);
    return (asked.stream ? stream : whole)(request, response, asked, chat, asked.max_tokens || 16);
  });
});

server.listen(process.env.HASUP_HTTP_SOCKET || Number(process.env.PORT));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
