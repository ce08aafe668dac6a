// Node's official clients, asked from test_node.py: a JSON question a line on standard input, a JSON
// answer a line on standard output. An answer is a pair: its essence, equal in both shapes and from
// whichever server, and all that the client read, equal only for a replay.
//
// usage: node ask.mjs FOLDER    FOLDER holds node_modules
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.argv[2]}/`);
const { OpenAI } = require("openai");
const { generateText, streamText, tool } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { z } = require("zod");

const openai = ({ url }) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-node", maxRetries: 0 });
const vercel = ({ url }) => createOpenAI({ baseURL: `${url}/v1`, apiKey: "sk-node" });

const messages = ({ question, nonce }) => [
  { role: "system", content: `Be brief. ${nonce}` },
  { role: "user", content: question },
];

const weather = {
  name: "get_weather",
  description: "Weather of a city",
  parameters: {
    type: "object",
    properties: { city: { type: "string" }, unit: { enum: ["C", "F"] } },
    required: ["city", "unit"],
  },
};

async function collected(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const called = (calls) => (calls ?? []).map((call) => [call.function.name, call.function.arguments]);

const chat = (fields) => ({
  async whole(asked) {
    const answer = await openai(asked).chat.completions.create({
      model: "sim", messages: messages(asked), ...fields,
    });
    const { message, finish_reason } = answer.choices[0];
    return [[message.content ?? "", called(message.tool_calls), finish_reason], answer];
  },
  async stream(asked) {
    // The helper puts the pieces together and is strict about their order.
    const runner = openai(asked).chat.completions.stream({
      model: "sim", messages: messages(asked), ...fields,
    });
    const events = await collected(runner);
    const { message, finish_reason } = (await runner.finalChatCompletion()).choices[0];
    return [[message.content ?? "", called(message.tool_calls), finish_reason], events];
  },
});

const said = ({ output_text, status, usage }) => [output_text, status, usage];

const responses = {
  async whole(asked) {
    const { question, nonce } = asked;
    const answer = await openai(asked).responses.create({
      model: "sim", instructions: nonce, input: question,
    });
    return [said(answer), answer];
  },
  async stream(asked) {
    const { question, nonce } = asked;
    const runner = openai(asked).responses.stream({
      model: "sim", instructions: nonce, input: question,
    });
    const events = await collected(runner);
    return [said(await runner.finalResponse()), events];
  },
};

const completions = {
  async whole(asked) {
    const { question, nonce } = asked;
    const answer = await openai(asked).completions.create({
      model: "sim", prompt: question, suffix: nonce, max_tokens: 300,
    });
    return [[answer.choices[0].text, answer.choices[0].finish_reason], answer];
  },
  async stream(asked) {
    const { question, nonce } = asked;
    const events = await collected(await openai(asked).completions.create({
      model: "sim", prompt: question, suffix: nonce, max_tokens: 300, stream: true,
    }));
    const text = events.map((event) => event.choices[0].text).join("");
    return [[text, events.at(-1).choices[0].finish_reason], events];
  },
};

const tokens = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];

const ai = (model, more) => {
  const fields = (asked) => ({
    model: model(vercel(asked)), system: `Be brief. ${asked.nonce}`, prompt: asked.question, maxRetries: 0,
    ...more,
  });
  const essence = (text, calls, reason, usage) => [
    text, calls.map((call) => [call.toolName, call.input]), reason, tokens(usage),
  ];
  return {
    async whole(asked) {
      const { text, toolCalls, finishReason, usage, response } = await generateText(fields(asked));
      return [essence(text, toolCalls, finishReason, usage), [response.id, response.body]];
    },
    async stream(asked) {
      const stream = streamText(fields(asked));
      const parts = await collected(stream.fullStream);
      const failed = parts.find((part) => part.type === "error");
      if (failed) throw failed.error;
      const all = await Promise.all([stream.text, stream.toolCalls, stream.finishReason, stream.usage]);
      // The client itself says when it began, and numbers what has no id.
      const kept = parts.filter((part) => part.type === "text-delta").map((part) => part.text);
      return [essence(...all), [kept, (await stream.response).id]];
    },
  };
};

const tools = { tools: [{ type: "function", function: weather }], tool_choice: "required" };
const aiTools = {
  toolChoice: "required",
  tools: {
    get_weather: tool({
      description: weather.description,
      inputSchema: z.object({ city: z.string(), unit: z.enum(["C", "F"]) }),
    }),
  },
};

const clients = {
  "openai-chat": chat({}),
  "openai-chat-tools": chat(tools),
  "openai-responses": responses,
  "openai-completions": completions,
  "ai-chat": ai((at) => at.chat("sim")),
  "ai-chat-tools": ai((at) => at.chat("sim"), aiTools),
  "ai-responses": ai((at) => at.responses("sim")),
};

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let told;
  try {
    told = { told: await clients[asked.client][asked.shape](asked) };
  } catch (error) {
    told = { error: `${error?.name}: ${error?.message}`, status: error?.status ?? error?.statusCode ?? null };
  }
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
