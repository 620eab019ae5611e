"""WebAssembly: SIMD128 and relaxed SIMD."""
