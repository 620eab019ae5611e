"""Artifacts made of small C step functions: what the artifact and runtime tests run instead of compiled models."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.artifact import ArchInfo, Golden, ModelImage, StepInfo, TensorInfo, write
from edgeq.artifact import format as layout
from edgeq.artifact.tools import cross_compiler, run_tool
from edgeq.cache import cached_file, content_key

ROWS, COLUMNS = 16, 24
CELLS = ROWS * COLUMNS
OFFSETS = {"x": 0, "y": 512, "sums": 1024, "copy": 2048}
ARENA_SIZE = 4096

# y = 3x + w (int8, wrapping, stored with `BIAS`), sums = row sums of y, copy = y through memcpy and memset.
STEP_SOURCE = """
#include <stdint.h>
#include <string.h>
enum { ROWS = 16, COLUMNS = 24, X = 0, Y = 512, SUMS = 1024, COPY = 2048 };
int32_t edgeq_step(int32_t step, int32_t t0, int32_t t1, int32_t slot, uint8_t *arena, const uint8_t *weights) {
  (void)slot;
  for (int32_t row = t0; row < t1; row++) {
    uint8_t *x = arena + X + row * COLUMNS, *y = arena + Y + row * COLUMNS;
    int32_t *sum = (int32_t *)(arena + SUMS) + row;
    switch (step) {
    case 0:
      for (int i = 0; i < COLUMNS; i++) y[i] = (uint8_t)(3 * (x[i] ^ BIAS) + weights[i]) ^ BIAS;
      break;
    case 1:
      *sum = 0;
      for (int i = 0; i < COLUMNS; i++) *sum += (int8_t)(y[i] ^ BIAS);
      break;
    case 2:
      memset(arena + COPY + row * COLUMNS, 0x11, COLUMNS);
      memcpy(arena + COPY + row * COLUMNS, y, weights[100] ? COLUMNS : 0);
      break;
    default:
      return 1;
    }
  }
  return 0;
}
"""

WEIGHTS = np.random.default_rng(5).integers(1, 255, 4096, dtype=np.uint8)


def reference(x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What the fake model computes of int8 [ROWS, COLUMNS]."""
    y = (3 * x.view(np.uint8) + WEIGHTS[:COLUMNS]).astype(np.uint8).view(np.int8)
    return {"y": y, "sums": y.sum(axis=1, dtype=np.int32), "copy": y}


def compile_object(source: str, arch: str, *flags: str) -> Path:
    """An object file of C `source`, cached."""
    options = ["-O2", "-fPIC", "-ffreestanding", "-fno-sanitize=all", "-g0", "-w", *flags]
    command = cross_compiler(arch)

    def build(made: Path) -> None:
        code = made.with_suffix(".c")
        code.write_text(source)
        run_tool([*command, *options, "-c", code, "-o", made], "compiling a test's step function")

    return cached_file("test-steps", "step.o", content_key([source, arch, *options]), build)


def fake_image(*, bias: int = 0, golden: int = 1) -> ModelImage:
    """Image of the fake model; golden vectors from the reference."""
    shape = (ROWS, COLUMNS)
    rng = np.random.default_rng(7)
    vectors = []
    for _ in range(golden):
        x = rng.integers(-128, 128, shape, dtype=np.int8)
        vectors.append(Golden([x], list(reference(x).values())))
    return ModelImage(
        steps=[
            StepInfo("triple", "Rescale", ROWS, 384, 792, 1),
            StepInfo("sum", "ReduceSum", ROWS, 0, 448, 1),
            StepInfo("copy", "Copy", ROWS, 0, 768, 5),
        ],
        inputs=[TensorInfo("x", "int8", shape, OFFSETS["x"], 0.05, -3, storage_bias=bias)],
        outputs=[
            TensorInfo("y", "int8", shape, OFFSETS["y"], 0.1, 4, storage_bias=bias),
            TensorInfo("sums", "int32", (ROWS,), OFFSETS["sums"], 0.01),
            TensorInfo("copy", "int8", shape, OFFSETS["copy"], 0.1, 4, storage_bias=bias, layout="rows"),
        ],
        arena_size=ARENA_SIZE,
        weights=WEIGHTS,
        max_threads=4,
        manifest={"model": "fake", "layers": ["triple", "sum"]},
        golden=vectors,
    )


def write_fake(
    path: Path,
    arch: str = "x86_64",
    *,
    bias: int = 0,
    features: tuple[str, ...] = (),
    image: ModelImage | None = None,
    source: str = STEP_SOURCE,
) -> Path:
    """Writes the fake model, or `image` and `source`, to `path`."""
    code = compile_object(source, arch, f"-DBIAS={bias}")
    write(image or fake_image(bias=bias), [code], ArchInfo(arch, features), path)
    return path


def with_digest(data: bytes) -> bytes:
    """`data` of an artifact with the digest put right again, as somebody who means harm would."""
    body = data[: -layout.DIGEST_SIZE]
    return body + hashlib.blake2b(body, digest_size=layout.DIGEST_SIZE).digest()


def patched(data: bytes, place: int, value: bytes) -> bytes:
    """`data` with `value` at `place` and a right digest."""
    return with_digest(data[:place] + value + data[place + len(value) :])


def trailer_place(data: bytes, field: str) -> int:
    """File offset of a trailer field."""
    return len(data) - layout.TRAILER.size + layout.TRAILER.offsets()[field]


def image_place(data: bytes, field: str) -> int:
    """File offset of a field of the image's header."""
    trailer = layout.TRAILER.unpack(data, len(data) - layout.TRAILER.size)
    return int(trailer["image_offset"]) + layout.IMAGE.offsets()[field]
