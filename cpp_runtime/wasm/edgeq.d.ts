/** Models that `edgeq compile --target wasm` and its parts made. */

export type Integers = Int8Array | Uint8Array | Int16Array | Int32Array | BigInt64Array;
export type Reals = Float32Array | Float64Array | number[];

/** An input or output: real value = scale * (q - zero_point); dense, in C order. */
export interface Tensor {
  readonly name: string;
  readonly dtype: "int8" | "uint8" | "int16" | "int32" | "int64";
  readonly shape: readonly number[];
  readonly scale: number;
  readonly zero_point: number;
  /** Bytes from the start of the arena. */
  readonly offset: number;
  /** Elements. */
  readonly length: number;
}

export class EdgeqError extends Error {}

/** float32 -> integers, halves to even, clipped. */
export function quantize(values: Reals, tensor: Tensor): Integers;
/** Integers -> float32. */
export function dequantize(values: Integers, tensor: Tensor): Float32Array;

export class Model {
  private constructor();
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly manifest: Record<string, unknown>;
  /** Another instance of the same module, with memory of its own. */
  clone(): Promise<Model>;
  /** The memory of an input or output; outputs are valid until the next run. */
  view(tensor: Tensor): Integers;
  /** One inference on what lies in the inputs' memory, which has to be written before every run. */
  execute(): void;
  /** One inference on integers; copies come back. */
  runIntegers(given: Integers | Record<string, Integers>): Record<string, Integers>;
  /** One inference on real numbers; integers go in as they are. */
  run(given: Reals | Integers | Record<string, Reals | Integers>): Record<string, Float32Array | Integers>;
  /** Bytes of the golden vectors' outputs that differ: 0 where all is right. */
  verify(): number;
}

/** Loads a model from its bytes or its URL. */
export function load(source: ArrayBuffer | ArrayBufferView | URL | string): Promise<Model>;

/** Of `NAME.wasm`, `NAME.relaxed-x86.wasm` and `NAME.relaxed-arm.wasm` the fastest for this engine; `source`: URL of the first. */
export function loadBest(source: URL | string): Promise<Model>;

/** What this engine's relaxed dot products compute, found out by trying: "relaxed-dot-u8", "relaxed-dot-s8" or nothing. */
export function features(): readonly string[];
