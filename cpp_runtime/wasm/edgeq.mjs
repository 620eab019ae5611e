// Loads and runs models that `edgeq compile --target wasm-simd128` made: browsers and Node.js, no dependencies.

const TYPES = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
};
const RANGES = {
  int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767], int32: [-2147483648, 2147483647],
};
const TO_EVEN = 6755399441055744; // 1.5 * 2^52: adding it rounds a double to an integer, halves to even
const FORMAT = 1;

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

function withLength(tensor) {
  return { ...tensor, length: tensor.shape.reduce((product, size) => product * size, 1) };
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
    return source;
  }
  const url = new URL(source, globalThis.location?.href ?? import.meta.url);
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

/**
 * Loads a model. `source`: its bytes, or its URL (a string is relative to the page; in Node.js a file: URL).
 * Throws EdgeqError where it isn't one of edgeq's, WebAssembly.CompileError where the engine can't compile it.
 */
export async function load(source) {
  const module = await WebAssembly.compile(await bytesOf(source));
  const manifest = JSON.parse(new TextDecoder().decode(section(module, "edgeq.manifest")));
  if (manifest.format !== FORMAT) {
    throw new EdgeqError(`the model has format ${manifest.format}, this edgeq.mjs reads ${FORMAT}: take its own`);
  }
  const instance = await WebAssembly.instantiate(module);
  return new Model(module, instance, manifest, section(module, "edgeq.golden"));
}
