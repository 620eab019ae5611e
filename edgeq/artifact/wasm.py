"""Models as WebAssembly modules: one .wasm that imports nothing, with `edgeq.mjs` and its types beside it.

The module exports `memory`, `edgeq_run()` and the address `edgeq_arena`: an instance is one model with its activations.
Weights are a data segment. The sections `edgeq.manifest` (JSON) and `edgeq.golden` (the bytes of every golden vector's
inputs, then outputs) travel behind the code, where engines pass over them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.artifact.static import target_compiler
from edgeq.artifact.tools import run_tool, zig
from edgeq.compiler.static_entry import static_entry_source
from edgeq.errors import ArtifactError, CompileError, ToolError
from edgeq.files import atomic_path
from edgeq.runtime.sources import runtime_root

if TYPE_CHECKING:
    from edgeq.compiler.pipeline import Compiled

FACE = ("edgeq.mjs", "edgeq.d.ts")
STACK_BYTES = 65536  # kernels' scratch memory is in the arena; what is left are spilled registers
_HEADER = b"\0asm\1\0\0\0"
_CUSTOM, _IMPORTS, _CODE = 0, 2, 10
_FLAGS = ["-O2", "-std=c11", "-ffreestanding", "-fno-builtin", "-fno-sanitize=all", "-g0", "-Wall"]


@dataclass(frozen=True)
class WasmSizes:
    """Bytes of a module.

    Attributes:
        file: all of it.
        code: without weights, manifest and golden vectors.
        weights: constants of the model.
        arena: memory for inputs, outputs, activations and scratch.
    """

    file: int
    code: int
    weights: int
    arena: int


def write_wasm(compiled: Compiled, path: Path) -> WasmSizes:
    """Writes the module, and the JavaScript that loads it into the same folder.

    Args:
        compiled: of `compile_graph` for a target of `arch = "wasm32"`.
        path: the module, `.wasm`.

    Raises:
        CompileError: the kernels call something that a module can't bring along.
        ToolError: no compiler or linker.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-wasm-") as scratch:
        linked = _linked(compiled, Path(scratch))
    weights = bytes(compiled.image.weights)
    if any(kind == _IMPORTS for kind, _ in sections(linked)):
        raise CompileError("the linked module imports something", hint="this is a defect of edgeq: please report it")
    golden = b"".join(np.ascontiguousarray(a).tobytes() for v in compiled.image.golden for a in (*v.inputs, *v.outputs))
    manifest = json.dumps(_manifest(compiled), separators=(",", ":"), sort_keys=True).encode()
    module = linked + _custom("edgeq.manifest", manifest) + _custom("edgeq.golden", golden)
    with atomic_path(path) as place:
        place.write_bytes(module)
    for file in FACE:
        with atomic_path(path.parent / file) as place:
            place.write_bytes((runtime_root() / "wasm" / file).read_bytes())
    return WasmSizes(len(module), len(linked) - len(weights), len(weights), compiled.image.arena_size)


def read_manifest(path: Path) -> dict[str, Any]:
    """What a module's `edgeq.manifest` says.

    Raises:
        ArtifactError: no WebAssembly, cut short, or without that section.
    """
    try:
        for kind, body in list(sections(path.read_bytes())):  # all of them: the file shall be whole
            if kind == _CUSTOM:
                length, start = _number(body, 0)
                if body[start : start + length] == b"edgeq.manifest":
                    manifest: dict[str, Any] = json.loads(body[start + length :])
                    return manifest
    except OSError as error:
        raise ArtifactError("can't read the module", where=str(path), why=error.strerror) from error
    except ValueError as error:
        raise ArtifactError("this is no whole WebAssembly module", where=str(path), why=str(error)) from error
    raise ArtifactError("the module wasn't made by edgeq", where=str(path), why="it has no section edgeq.manifest")


def code_size(module: bytes | memoryview) -> int:
    """Bytes of a module's or object's code section."""
    return sum(len(body) for kind, body in sections(bytes(module)) if kind == _CODE)


def sections(module: bytes) -> Iterator[tuple[int, bytes]]:
    """(id, content) of a module's sections, in order.

    Raises:
        ValueError: it isn't one, or is cut short.
    """
    if module[:8] != _HEADER:
        raise ValueError("it doesn't begin with WebAssembly's magic number and version 1")
    place = 8
    while place < len(module):
        kind = module[place]
        length, place = _number(module, place + 1)
        if place + length > len(module):
            raise ValueError(f"a section of {length} bytes ends behind the file")
        yield kind, module[place : place + length]
        place += length


def _number(data: bytes, place: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most 32 bits, and where it ends."""
    value = 0
    for count in range(5):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place
    raise ValueError("a number is cut short or too long")


def _leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _custom(name: str, payload: bytes) -> bytes:
    body = _leb(len(name)) + name.encode() + payload
    return bytes([_CUSTOM]) + _leb(len(body)) + body


def _linked(compiled: Compiled, folder: Path) -> bytes:
    """Kernels, entry and weights as a module."""
    entry = static_entry_source("model", compiled.program, compiled.plan, compiled.weight_offsets, compiled.target)
    alignment, arena = compiled.target.alignment, compiled.image.arena_size
    exported = f"_Alignas({alignment}) uint8_t edgeq_arena[{arena}];\n"
    call = "void edgeq_run(void);\nvoid edgeq_run(void) { model_run(edgeq_arena); }\n"
    (folder / "entry.c").write_text(entry + exported + call, encoding="utf-8")
    (folder / "weights.bin").write_bytes(bytes(compiled.image.weights))
    (folder / "weights.S").write_text(_weights_source(alignment, len(compiled.image.weights)), encoding="utf-8")
    memory = runtime_root() / "artifact" / "memory.c"
    made = []
    for source in (folder / "entry.c", folder / "weights.S", memory):
        made.append(folder / f"{source.stem}.o")
        flags = [f"-I{folder}", *(_FLAGS if source.suffix == ".c" else [])]
        command: list[str | Path] = [*target_compiler(compiled.target), *flags, "-c", source, "-o", made[-1]]
        run_tool(command, f"compiling {source.name}")
    module = folder / "model.wasm"
    exports = [f"--export={name}" for name in ("edgeq_run", "edgeq_arena")]
    options = ["--no-entry", "--gc-sections", "--strip-all", "--stack-first", "-z", f"stack-size={STACK_BYTES}"]
    run_tool(
        [*_wasm_linker(), *options, *exports, *made, *dict.fromkeys(compiled.objects), "-o", module],
        "linking the module",
    )
    return module.read_bytes()


def _weights_source(alignment: int, size: int) -> str:
    return (
        '  .section .rodata.model_weights,"",@\n  .globl model_weights\n'
        f"  .p2align {alignment.bit_length() - 1}\n"
        f'model_weights:\n  .incbin "weights.bin"\n  .size model_weights, {size}\n'
    )


def _wasm_linker() -> list[str]:
    found = zig()
    if found is None:
        raise ToolError("WebAssembly modules need zig's linker", hint="pip install ziglang")
    return [str(found), "wasm-ld"]


def _manifest(compiled: Compiled) -> dict[str, Any]:
    image = compiled.image
    tensors = {"inputs": [asdict(t) for t in image.inputs], "outputs": [asdict(t) for t in image.outputs]}
    return {**image.manifest, **tensors, "golden": len(image.golden), "arena_bytes": image.arena_size, "format": 1}
