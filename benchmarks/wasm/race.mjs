// node race.mjs CASE.json: times edgeq's module and onnxruntime-web's sessions in turns, one thread each. Prints JSON.
// CASE: {edgeq, face, input (float32 file), shape, name, onnx: {form: file}, rounds, budget_ms, warm_ms}
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import * as ort from "onnxruntime-web";

const given = JSON.parse(readFileSync(process.argv[2], "utf-8"));
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

const bytes = readFileSync(given.input);
const x = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const sides = {};

const { loadBest } = await import(pathToFileURL(given.face).href);
const model = await loadBest(pathToFileURL(given.edgeq));
sides.edgeq = { run: async () => model.run(x) };
for (const [form, file] of Object.entries(given.onnx)) {
  const session = await ort.InferenceSession.create(readFileSync(file), { executionProviders: ["wasm"] });
  const tensor = new ort.Tensor("float32", x, given.shape);
  sides[`onnxruntime-web ${form}`] = { run: () => session.run({ [session.inputNames[0]]: tensor }) };
}

async function timed(side, count) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    await side.run();
  }
  return Number(process.hrtime.bigint() - start) / 1e6 / count;
}

for (const side of Object.values(sides)) {
  side.times = [];
  const end = process.hrtime.bigint() + BigInt(given.warm_ms * 1e6); // until the optimised code is there
  do {
    side.last = await timed(side, 1);
  } while (process.hrtime.bigint() < end);
  side.count = Math.max(1, Math.ceil(given.budget_ms / side.last));
}
for (let round = 0; round < given.rounds; round++) {
  for (const side of Object.values(sides)) {
    side.times.push(await timed(side, side.count));
  }
}
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const least = (values) => Math.min(...values);
const by = (statistic) =>
  Object.fromEntries(Object.entries(sides).map(([name, side]) => [name, statistic(side.times)]));
const result = { median: by(median), least: by(least), module: model.manifest.target, different: model.verify() };
console.log(JSON.stringify(result));
process.exit(0);
