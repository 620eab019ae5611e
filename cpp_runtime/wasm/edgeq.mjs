// Loads and runs models that `edgeq compile --target wasm` and its parts made: browsers and Node.js, no dependencies.

const TYPES = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
};
const RANGES = {
  int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767], int32: [-2147483648, 2147483647],
};
const TO_EVEN = 6755399441055744; // 1.5 * 2^52: adding it rounds a double to an integer, halves to even
const FORMAT = 1;
// What a module of `--target wasm` needs, best first; the last one runs everywhere.
const VARIANTS = [["relaxed-arm", "relaxed-dot-s8"], ["relaxed-x86", "relaxed-dot-u8"]];
// One function: memory[32] = i16x8.relaxed_dot_i8x16_i7x16_s(memory[0], memory[16]), memory[48] =
// i32x4.relaxed_dot_i8x16_i7x16_add_s of the same and zeros.
const PROBE =
  "AGFzbQEAAAABBAFgAAADAgEABQMBAAEHCQIBbQIAAWYAAApAAT4AQQBBAP0ABABBAP0ABBD9kgL9CwQgQQBBAP0ABABBAP0ABBD9DAAAAAAA" +
  "AAAAAAAAAAAAAAD9kwL9CwQwCw==";
// Neighbours whose sums saturate as s8 by u8; as s8 by s8 none passes 16 bits.
const PROBE_A = [127, 127, -128, -128, 127, 1, -128, 1, 100, 27, -77, 3, 1, -1, -1, -1];
const PROBE_B = [255, 255, 255, 255, 128, 129, 129, 200, 200, 254, 190, 131, 128, 255, 255, 128];
let known;

/** What edgeq.mjs throws. */
export class EdgeqError extends Error {
  constructor(message) {
    super(message);
    this.name = "EdgeqError";
  }
}

/**
 * float32 values -> integers: clip(rint(float32(x) * float32(1 / scale)) + zeroPoint), halves to even, as
 * edgeq.integer.arithmetic.quantize. Throws EdgeqError for values that are not finite.
 */
export function quantize(values, tensor) {
  const range = RANGES[tensor.dtype];
  if (range === undefined) {
    throw new EdgeqError(`${tensor.name}: ${tensor.dtype} has no real values: give integers`);
  }
  const [low, high] = range;
  const inverse = Math.fround(1 / tensor.scale);
  const result = new TYPES[tensor.dtype](values.length);
  for (let i = 0; i < values.length; i++) {
    const value = Math.fround(values[i]);
    if (!Number.isFinite(value)) {
      throw new EdgeqError(`${tensor.name}: element ${i} is not finite`);
    }
    const scaled = Math.min(Math.max(Math.fround(value * inverse), -4294967296), 4294967296);
    const steps = scaled + TO_EVEN - TO_EVEN + tensor.zero_point;
    result[i] = Math.min(Math.max(steps, low), high);
  }
  return result;
}

/** Integers -> float32 values: float32(q - zeroPoint) * float32(scale). */
export function dequantize(values, tensor) {
  const result = new Float32Array(values.length);
  const scale = Math.fround(tensor.scale);
  for (let i = 0; i < values.length; i++) {
    result[i] = Math.fround(Number(values[i]) - tensor.zero_point) * scale;
  }
  return result;
}

/** A model and its activations. Runs of one Model come one after the other; `clone()` makes an independent one. */
export class Model {
  #module;
  #exports;
  #golden;

  constructor(module, instance, manifest, golden) {
    this.#module = module;
    this.#exports = instance.exports;
    this.#golden = golden;
    this.manifest = manifest;
    this.inputs = manifest.inputs.map(withLength);
    this.outputs = manifest.outputs.map(withLength);
  }

  /** Another instance of the same module, with memory of its own. */
  async clone() {
    return new Model(this.#module, await WebAssembly.instantiate(this.#module), this.manifest, this.#golden);
  }

  /** The memory of an input or output as a typed array of integers. Outputs are valid until the next run. */
  view(tensor) {
    const start = Number(this.#exports.edgeq_arena.value) + tensor.offset;
    return new TYPES[tensor.dtype](this.#exports.memory.buffer, start, tensor.length);
  }

  /** One inference on what lies in the inputs' memory; inputs have to be written before every run. */
  execute() {
    this.#exports.edgeq_run();
  }

  /**
   * One inference on integers. `given`: {input name: typed array}, or the array alone where there is one input.
   * Returns {output name: typed array}, copies.
   */
  runIntegers(given) {
    const feeds = this.#feeds(given);
    for (const tensor of this.inputs) {
      const values = feeds[tensor.name];
      if (!(values instanceof TYPES[tensor.dtype])) {
        throw new EdgeqError(`input ${tensor.name}: expected a ${TYPES[tensor.dtype].name}`);
      }
      this.view(tensor).set(values);
    }
    this.execute();
    return Object.fromEntries(this.outputs.map((tensor) => [tensor.name, this.view(tensor).slice()]));
  }

  /** One inference on real numbers: Float32Arrays are quantized, outputs dequantized. Integers go in as they are. */
  run(given) {
    const feeds = this.#feeds(given);
    const integers = {};
    for (const tensor of this.inputs) {
      const values = feeds[tensor.name];
      const real = values instanceof Float32Array || values instanceof Float64Array || Array.isArray(values);
      integers[tensor.name] = real ? quantize(values, tensor) : values;
    }
    const found = this.runIntegers(integers);
    for (const tensor of this.outputs) {
      if (tensor.dtype !== "int64" && tensor.scale > 0) {
        found[tensor.name] = dequantize(found[tensor.name], tensor);
      }
    }
    return found;
  }

  /** Runs the golden vectors; returns the number of output bytes that differ: 0 where all is right. */
  verify() {
    let place = 0;
    let different = 0;
    const bytes = (tensor) => {
      const view = this.view(tensor);
      return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    };
    for (let vector = 0; vector < this.manifest.golden; vector++) {
      for (const tensor of this.inputs) {
        const memory = bytes(tensor);
        memory.set(this.#golden.subarray(place, place + memory.length));
        place += memory.length;
      }
      this.execute();
      for (const tensor of this.outputs) {
        for (const byte of bytes(tensor)) {
          different += byte === this.#golden[place++] ? 0 : 1;
        }
      }
    }
    return different;
  }

  #feeds(given) {
    const alone = ArrayBuffer.isView(given) || Array.isArray(given);
    if (alone && this.inputs.length !== 1) {
      throw new EdgeqError(`the model has ${this.inputs.length} inputs: give {name: array}`);
    }
    const feeds = alone ? { [this.inputs[0].name]: given } : given;
    for (const name of Object.keys(feeds)) {
      if (!this.inputs.some((tensor) => tensor.name === name)) {
        throw new EdgeqError(`no input ${name}: the model has ${this.inputs.map((t) => t.name).join(", ")}`);
      }
    }
    for (const { name, length, shape } of this.inputs) {
      if (feeds[name] === undefined) {
        throw new EdgeqError(`input ${name} is missing`);
      }
      if (feeds[name].length !== length) {
        throw new EdgeqError(
          `input ${name}: ${feeds[name].length} elements, expected ${length} (${shape.join(" x ")})`,
        );
      }
    }
    return feeds;
  }
}

/**
 * What this engine's relaxed dot products do with a second operand of 8 bits, which WebAssembly leaves open but fixed for an
 * engine: "relaxed-dot-u8" (unsigned, sums of two saturate in 16 bits: x86-64), "relaxed-dot-s8" (signed: Arm), or nothing
 * where it has none.
 */
export function features() {
  known ??= probed();
  return known;
}

function probed() {
  const bytes = Uint8Array.from(atob(PROBE), (character) => character.charCodeAt(0));
  if (!WebAssembly.validate(bytes)) {
    return [];
  }
  const { m, f } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
  new Int8Array(m.buffer).set(PROBE_A, 0);
  new Uint8Array(m.buffer).set(PROBE_B, 16);
  f();
  const words = new Int16Array(m.buffer, 32, 8);
  const sums = new Int32Array(m.buffer, 48, 4);
  const pairs = (values) => Array.from({ length: values.length / 2 }, (_, i) => values[2 * i] + values[2 * i + 1]);
  const same = (found, expected) => expected.every((value, i) => value === found[i]);

  const unsigned = pairs(PROBE_A.map((a, i) => a * PROBE_B[i]));
  const saturated = unsigned.map((sum) => Math.min(Math.max(sum, -32768), 32767));
  // Engines with vpdpbusd don't saturate on the way to 32 bits; kernels have no sums that would.
  if (same(words, saturated) && (same(sums, pairs(saturated)) || same(sums, pairs(unsigned)))) {
    return ["relaxed-dot-u8"];
  }
  const signed = pairs(PROBE_A.map((a, i) => a * (PROBE_B[i] - 256)));
  return same(words, signed) && same(sums, pairs(signed)) ? ["relaxed-dot-s8"] : [];
}

function withLength(tensor) {
  return { ...tensor, length: tensor.shape.reduce((product, size) => product * size, 1) };
}

function urlOf(source) {
  return new URL(source, globalThis.location?.href ?? import.meta.url);
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
    return source;
  }
  const url = urlOf(source);
  if (url.protocol === "file:" && globalThis.process?.versions?.node) {
    const { readFile } = await import("node:fs/promises");
    return readFile(url);
  }
  const answer = await fetch(url);
  if (!answer.ok) {
    throw new EdgeqError(`${url}: ${answer.status} ${answer.statusText}`);
  }
  return answer.arrayBuffer();
}

function section(module, name) {
  const found = WebAssembly.Module.customSections(module, name);
  if (found.length !== 1) {
    throw new EdgeqError(`the module wasn't made by edgeq: it has no section ${name}`);
  }
  return new Uint8Array(found[0]);
}

function manifestOf(module) {
  const manifest = JSON.parse(new TextDecoder().decode(section(module, "edgeq.manifest")));
  if (manifest.format !== FORMAT) {
    throw new EdgeqError(`the model has format ${manifest.format}, this edgeq.mjs reads ${FORMAT}: take its own`);
  }
  const missing = manifest.cpu_features.find((feature) => !features().includes(feature));
  if (missing !== undefined) {
    throw new EdgeqError(`the model needs ${missing}, which this engine doesn't have: loadBest chooses among files`);
  }
  return manifest;
}

/**
 * Loads a model. `source`: its bytes, or its URL (a string is relative to the page; in Node.js a file: URL).
 * Throws EdgeqError where it isn't one of edgeq's or needs what this engine doesn't have, WebAssembly.CompileError where
 * the engine can't compile it.
 */
export async function load(source) {
  const module = await WebAssembly.compile(await bytesOf(source));
  const manifest = manifestOf(module);
  const instance = await WebAssembly.instantiate(module);
  return new Model(module, instance, manifest, section(module, "edgeq.golden"));
}

/**
 * Of the files that `edgeq compile --target wasm -o NAME.wasm` made, loads the fastest for this engine. `source`: URL of
 * NAME.wasm; NAME.relaxed-x86.wasm and NAME.relaxed-arm.wasm lie beside it.
 */
export async function loadBest(source) {
  const url = urlOf(source);
  const chosen = VARIANTS.find(([, feature]) => features().includes(feature));
  if (chosen !== undefined) {
    if (!url.pathname.endsWith(".wasm")) {
      throw new EdgeqError(`${url}: the name of a model ends in .wasm`);
    }
    url.pathname = url.pathname.replace(/wasm$/, `${chosen[0]}.wasm`);
  }
  return load(url);
}
