// node run.mjs MODEL.wasm [INPUTS OUTPUTS]: without files runs the golden vectors and prints how many bytes differ; with
// them runs every record of INPUTS (the integers of all inputs, one behind the other) and writes OUTPUTS the same way.
import { readFileSync, writeFileSync } from "node:fs";
import { load } from "./edgeq.mjs";

const [file, from, to] = process.argv.slice(2);
const model = await load(readFileSync(file));
if (from === undefined) {
  console.log(model.verify());
} else {
  const bytes = (tensor) => {
    const view = model.view(tensor);
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  };
  const data = readFileSync(from);
  const parts = [];
  for (let place = 0; place < data.length; ) {
    for (const tensor of model.inputs) {
      const memory = bytes(tensor);
      memory.set(data.subarray(place, place + memory.length));
      place += memory.length;
    }
    model.execute();
    parts.push(...model.outputs.map((tensor) => bytes(tensor).slice()));
  }
  writeFileSync(to, Buffer.concat(parts));
}
