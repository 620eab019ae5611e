// node run.mjs MODEL.wasm FEATURES verify | run INPUTS OUTPUTS | bench REPEATS [INPUTS]: how many bytes of the golden
// vectors' outputs differ; OUTPUTS of every record of INPUTS (the integers of all inputs, one behind the other); nanoseconds
// of runs, as JSON. Prints "unsupported" where this engine lacks one of FEATURES (names with commas between them).
import { readFileSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";

// Before V8 11.4 relaxed SIMD is behind a flag, and its quick compiler adds twice in some dot products.
if (Number(process.versions.node.split(".")[0]) <= 20) {
  setFlagsFromString("--experimental-wasm-relaxed-simd");
  setFlagsFromString("--no-liftoff");
}
const WARM = 20; // runs until the optimised code is there
const { features, load } = await import("./edgeq.mjs");
const [file, needed, command, ...rest] = process.argv.slice(2);

function bytes(model, tensor) {
  const view = model.view(tensor);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

// Writes the record that starts at `place` to the inputs; returns where the next one starts.
function feed(model, data, place) {
  for (const tensor of model.inputs) {
    const memory = bytes(model, tensor);
    memory.set(data.subarray(place, place + memory.length));
    place += memory.length;
  }
  return place;
}

function runAll(model, from, to) {
  const data = readFileSync(from);
  const parts = [];
  for (let place = 0; place < data.length; ) {
    place = feed(model, data, place);
    model.execute();
    parts.push(...model.outputs.map((tensor) => bytes(model, tensor).slice()));
  }
  writeFileSync(to, Buffer.concat(parts));
}

function times(model, repeats, from) {
  const data = from === undefined ? undefined : readFileSync(from);
  const taken = [];
  for (let run = -WARM; run < repeats; run++) {
    if (data !== undefined) {
      feed(model, data, 0);
    }
    const start = process.hrtime.bigint();
    model.execute();
    taken.push(Number(process.hrtime.bigint() - start));
  }
  return JSON.stringify(taken.slice(WARM));
}

if (needed.split(",").some((feature) => feature !== "" && !features().includes(feature))) {
  console.log("unsupported");
} else {
  const model = await load(readFileSync(file));
  if (command === "verify") {
    console.log(model.verify());
  } else if (command === "run") {
    runAll(model, ...rest);
  } else {
    console.log(times(model, Number(rest[0]), rest[1]));
  }
}
