// What OpenAI's own client makes of hasup: node client.mjs BASE-URL MODEL; prints one JSON object.
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0, timeout: 60000 });
const asked = { model, max_tokens: 300, seed: 7 };
const text = { ...asked, prompt: "The Light" };
const chat = { ...asked, messages: [{ role: "user", content: "The Light" }] };
const seen = { models: [], refused: [] };

for await (const one of client.models.list()) seen.models.push(one.id);
seen.retrieved = (await client.models.retrieve(model)).id;

const said = await client.chat.completions.create(chat);
seen.chat = { text: said.choices[0].message.content, finish: said.choices[0].finish_reason, usage: said.usage };

seen.chat_stream = { text: "", chunks: 0, finish: null, usage: null, ids: [] };
for await (const chunk of await client.chat.completions.create({
  ...chat, stream: true, stream_options: { include_usage: true },
})) {
  seen.chat_stream.chunks += 1;
  seen.chat_stream.text += chunk.choices[0]?.delta.content ?? "";
  seen.chat_stream.finish ??= chunk.choices[0]?.finish_reason ?? null;
  seen.chat_stream.usage = chunk.usage;
  if (!seen.chat_stream.ids.includes(chunk.id)) seen.chat_stream.ids.push(chunk.id);
}

// The client's own helper puts a stream together itself.
seen.helper = (await client.chat.completions.stream(chat).finalChatCompletion()).choices[0].message.content;

const told = await client.completions.create(text);
seen.text = { text: told.choices[0].text, finish: told.choices[0].finish_reason, usage: told.usage };

seen.text_stream = { text: "", chunks: 0 };
for await (const chunk of await client.completions.create({ ...text, stream: true })) {
  seen.text_stream.chunks += 1;
  seen.text_stream.text += chunk.choices[0].text;
}

for (const wrong of [{ model: "nobody" }, { n: 2 }, { messages: "x" }, { model: "nobody", stream: true }]) {
  try {
    await client.chat.completions.create({ ...chat, ...wrong });
  } catch (error) {
    const { status, code, param, type, message } = error;
    seen.refused.push({ status, code, param, type, message, kind: error.constructor.name });
  }
}
console.log(JSON.stringify(seen));
