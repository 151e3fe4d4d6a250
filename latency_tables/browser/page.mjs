// The page's side of device "browser": loads models into onnxruntime-web, runs them and times them.
// Python calls these functions by name, one at a time, with JSON; what they return is JSON.

import * as ort from "./ort.wasm.min.mjs";

const OPTIONS = {
  executionProviders: ["wasm"],
  graphOptimizationLevel: "all",
  executionMode: "sequential",
  enableCpuMemArena: false,
  enableMemPattern: false,
  logSeverityLevel: 3,
};
const opened = new Map(); // id -> {session, feeds}

// The runtime prints its profile to the console as it found it when it started: listen from the beginning.
const print = console.log;
let printed = null;
console.log = (...words) => (printed ? printed.push(words.join(" ")) : print(...words));

export function start(threads) {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.proxy = false;
  ort.env.logLevel = "error";
  return { isolated: globalThis.crossOriginIsolated === true, version: ort.env.versions.web };
}

export async function open(id, url, profiled) {
  const model = new Uint8Array(await fetched(url));
  const session = await ort.InferenceSession.create(model, { ...OPTIONS, enableProfiling: profiled });
  opened.set(id, { session, feeds: {} });
  return { inputs: session.inputMetadata, outputs: session.outputMetadata, threads: ort.env.wasm.numThreads };
}

export async function feed(id, inputs) {
  const feeds = {};
  for (const { name, dims, url } of inputs) {
    feeds[name] = new ort.Tensor("float32", new Float32Array(await fetched(url)), dims);
  }
  opened.get(id).feeds = feeds;
  return true;
}

export async function time(id, count, slices) {
  const { session, feeds } = opened.get(id);
  const seconds = [];
  for (let slice = 0; slice < slices; slice++) {
    const begin = performance.now();
    for (let i = 0; i < count; i++) await session.run(feeds);
    seconds.push((performance.now() - begin) / 1e3);
  }
  return seconds;
}

export async function compute(id, names) {
  const { session, feeds } = opened.get(id);
  const results = await session.run(feeds, names);
  return Promise.all(names.map(async (name) => {
    const { type, dims, data } = results[name];
    return { name, type, dims, data: await base64(data) };
  }));
}

// The operators that ran, from the profile, which has a line a node.
export async function operators(id) {
  const { session, feeds } = opened.get(id);
  await session.run(feeds);
  printed = [];
  session.endProfiling();
  const lines = printed.join("\n");
  printed = null;
  return [...lines.matchAll(/"op_name" : "(\w+)"/g)].map((match) => match[1]);
}

export async function release(ids) {
  for (const id of ids) {
    await opened.get(id)?.session.release();
    opened.delete(id);
  }
  return opened.size;
}

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.arrayBuffer();
}

function base64(data) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([data]));
  });
}
