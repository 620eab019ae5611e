// node classify.mjs FOLDER [IMAGE.f32]: reads the digit in 64 float32 pixels (8 x 8, 0 to 16); checks the model first.
//   edgeq compile examples/digits/digits.onnx --calib examples/digits/calib.npz --target wasm -o web/digits.wasm
//   node examples/wasm/classify.mjs web
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(resolve(process.argv[2] ?? ".") + "/");
const { loadBest } = await import(new URL("edgeq.mjs", folder).href);
const model = await loadBest(new URL("digits.wasm", folder));
if (model.verify() !== 0) {
  throw new Error("the model's golden vectors don't come out as they should");
}
let pixels = new Float32Array(model.inputs[0].length).fill(8);
if (process.argv[3]) {
  const bytes = readFileSync(process.argv[3]);
  pixels = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}
const scores = model.run(pixels)[model.outputs[0].name];
console.log(`digit ${scores.indexOf(Math.max(...scores))}`);
