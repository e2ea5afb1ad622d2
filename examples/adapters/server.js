// An HTTP model server that knows nothing of hasup: Node's own http module, nothing else.
//
//   GET  /health         200 once it is loaded
//   POST /score          {"text": …} → {"letters", "digits", "pid"}
//   GET  /words?n=8      server-sent events, one word each
//   POST /orders         takes effect, so it must not run twice
"use strict";
const http = require("http");

const WORDS = "the light of the lamp fell on the page and the page was read".split(" ");
let loaded = false;
let orders = 0;

function json(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}

function score(text) {
  return { letters: (text.match(/[a-z]/gi) || []).length, digits: (text.match(/[0-9]/g) || []).length };
}

function words(response, count, every) {
  let at = 0;
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const timer = setInterval(() => {
    response.write(`data: ${WORDS[at % WORDS.length]}\n\n`);
    if (++at < count) return;
    clearInterval(timer);
    response.end("data: [DONE]\n\n");
  }, every);
  response.on("close", () => clearInterval(timer));
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://server");
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts).toString();
    const route = `${request.method} ${url.pathname}`;
    if (route === "GET /health") return json(response, loaded ? 200 : 503, { loaded });
    if (route === "GET /words")
      return words(response, Number(url.searchParams.get("n")) || 8, Number(url.searchParams.get("ms")) || 20);
    if (route === "POST /orders") return json(response, 201, { order: ++orders });
    if (route !== "POST /score") return json(response, 404, { error: "no such path" });
    try {
      return json(response, 200, { ...score(JSON.parse(body).text), pid: process.pid });
    } catch (error) {
      return json(response, 400, { error: String(error.message) });
    }
  });
});

setTimeout(() => { loaded = true; }, 50); // a model loads slowly
server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
