"""Models as static libraries: lib<name>.a, <name>.h and <name>.json, for firmware and for programs without a loader.

The library holds two members: the model (kernels, entry, weights, descriptor), linked into one relocatable object, and
its golden vectors. Nothing in it is writable and nothing is called from outside but memcpy and memset, and libgcc's
integer helpers where the processor lacks an instruction.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.artifact import elf32
from edgeq.artifact.stack import stack_bytes
from edgeq.artifact.static_text import descriptor_source, golden_source, header_text, weights_source
from edgeq.artifact.tools import linker, run_tool, zig
from edgeq.compiler.static_entry import static_entry_source
from edgeq.errors import CompileError, ToolError, UsageError
from edgeq.files import atomic_path
from edgeq.runtime.sources import runtime_root

if TYPE_CHECKING:
    from edgeq.compiler.pipeline import Compiled
    from edgeq.compiler.target import Target

_FLAGS = ["-Os", "-std=c11", "-ffreestanding", "-fno-stack-protector", "-fno-sanitize=all", "-g0", "-Wall"]
_FLAGS += ["-fno-jump-tables"]  # their numbers between instructions would be read as code (stack.py)
# What firmware has no use for; attributes go too, so that the library links with either float ABI.
_DISCARD = """SECTIONS {
  /DISCARD/ : { *(.ARM.exidx*) *(.ARM.attributes) *(.debug*) *(.eh_frame*) *(.note*) *(.comment) }
}
"""


@dataclass(frozen=True)
class StaticSizes:
    """What a static library takes, in bytes.

    Attributes:
        code: machine code and its constants, without weights.
        weights: constants of the model.
        arena: RAM for inputs, outputs, activations and scratch.
        stack: most that a run takes.
        golden: golden vectors, in a member of their own.
        fast_arena: RAM in fast memory, beside the arena.
    """

    code: int
    weights: int
    arena: int
    stack: int
    golden: int
    fast_arena: int = 0

    @property
    def flash(self) -> int:
        """Code and weights."""
        return self.code + self.weights


def identifier(text: str) -> str:
    """A C identifier for a model's name."""
    name = re.sub(r"\W+", "_", text).strip("_").lower()
    return name if name and not name[0].isdigit() else f"model_{name}"


def require_identifier(name: str) -> None:
    """Raises UsageError if the name can't begin C symbols."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise UsageError("the model's name must be a C identifier in lower case", where=name, hint="give --name")


def write_static(compiled: Compiled, folder: Path, name: str, *, marks: bool = False) -> StaticSizes:
    """Writes the library, its header and its manifest into a folder, which is made if need be.

    Args:
        compiled: of `compile_graph`, for any target.
        name: C identifier; begins the library's symbols and, in capitals, the header's macros.
        marks: put the markers that the counting plugin looks for around every kernel call.

    Raises:
        UsageError: the name is no identifier.
        CompileError: the kernels need something that a static library can't have, or more memory than there is.
        ToolError: no compiler or linker.
    """
    require_identifier(name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgeq-static-") as scratch:
        build = _Build(compiled, Path(scratch), name, marks)
        model = build.model()
        golden = build.golden()
        archive = Path(scratch) / "lib.a"
        run_tool([*_zig(), "ar", "rcsD", archive, model, golden], "making the static library")
        sizes = build.sizes
        contents = {
            f"lib{name}.a": archive.read_bytes(),
            f"{name}.h": header_text(name, compiled, sizes).encode(),
            f"{name}.json": (json.dumps(_manifest(compiled, sizes), indent=1) + "\n").encode(),
            "edgeq_static.h": (runtime_root() / "include" / "edgeq" / "edgeq_static.h").read_bytes(),
        }
        for file, data in contents.items():
            with atomic_path(folder / file) as place:
                place.write_bytes(data)
    return sizes


class _Build:
    """The objects of one library."""

    def __init__(self, compiled: Compiled, folder: Path, name: str, marks: bool) -> None:
        self.compiled, self.folder, self.name, self.marks = compiled, folder, name, marks
        self.compiler = target_compiler(compiled.target)
        self.sizes = StaticSizes(0, 0, 0, 0, 0)

    def model(self) -> Path:
        """Kernels, entry, weights and descriptor as one object."""
        c, name = self.compiled, self.name
        entry = static_entry_source(name, c.program, c.plan, c.weight_offsets, c.target)
        code = [*c.objects, *self._support(), self._c("entry", entry)]
        stack = stack_bytes(self._joined("code", code, f"{name}_run"), f"{name}_run")
        data = np.frombuffer(bytes(c.image.weights), np.uint8)
        weights = self._blob("weights", weights_source(name, c.target.alignment), data)
        descriptor = self._c("descriptor", descriptor_source(name, c, stack))
        joined = self._joined("model", [*code, weights, descriptor], f"{name}_model")
        raw = elf32.with_weak_symbols(joined.read_bytes(), keep=f"{name}_")
        joined.write_bytes(raw)
        read_only = elf32.read_only_bytes(raw)
        self._check_symbols(raw)
        golden = sum(a.nbytes for vector in c.image.golden for a in (*vector.inputs, *vector.outputs))
        self.sizes = StaticSizes(read_only - data.nbytes, data.nbytes, c.image.arena_size, stack, golden, c.fast_arena)
        return joined

    def golden(self) -> Path:
        """The golden vectors' object."""
        vectors = self.compiled.image.golden
        parts = [np.ascontiguousarray(a).tobytes() for v in vectors for a in (*v.inputs, *v.outputs)]
        data = np.frombuffer(b"".join(parts) or b"\0", np.uint8)
        carrier = self._blob("golden", golden_source(self.name), data)
        return self._joined("golden", [carrier], f"{self.name}_golden")

    def _support(self) -> list[Path]:
        """Hand-written inner loops of the target's kernels; what isn't called is dropped."""
        root = runtime_root() / "static"
        return [self._compile(root / file) for file in self.compiled.target.spec.toolchain.support]

    def _c(self, stem: str, source: str) -> Path:
        path = self.folder / f"{stem}.c"
        path.write_text(source, encoding="utf-8")
        return self._compile(path)

    def _blob(self, stem: str, source: str, data: np.ndarray) -> Path:
        (self.folder / f"{stem}.bin").write_bytes(data.tobytes())
        path = self.folder / f"{stem}.S"
        path.write_text(source.replace("@FILE@", f"{stem}.bin"), encoding="utf-8")
        return self._compile(path)

    def _compile(self, source: Path) -> Path:
        made = self.folder / f"{source.stem}.o"
        root = runtime_root()
        include = [f"-I{root / 'include' / 'edgeq'}", f"-I{root / 'qemu'}", f"-I{self.folder}"]
        model = "-fno-pic" if self.compiled.target.bare_metal else "-fPIC"
        flags = [*_FLAGS, model, *(["-DEDGEQ_MARKS"] if self.marks else [])] if source.suffix == ".c" else []
        run_tool([*self.compiler, *flags, *include, "-c", source, "-o", made], f"compiling {source.name}")
        return made

    def _joined(self, stem: str, objects: Sequence[Path], root: str) -> Path:
        script = self.folder / "discard.ld"
        script.write_text(_DISCARD, encoding="utf-8")
        made = self.folder / f"{stem}.joined.o"
        options: list[str | Path] = ["-r", "--gc-sections", "-u", root, "-T", script, "-o", made]
        run_tool([*linker(), *options, *objects], "linking the static library")
        return made

    def _check_symbols(self, raw: bytes) -> None:
        allowed = re.compile(r"mem(cpy|set|move)|__aeabi_\w+|__\w+[dst]i\d?|" + f"{self.name}_golden")
        strange = sorted(s for s in elf32.undefined_symbols(raw) if not allowed.fullmatch(s))
        if strange:
            raise CompileError(
                "the kernels need something that a static library can't have",
                why=f"undefined: {', '.join(strange[:5])}",
                hint="this is a bug of the kernels: please report the model and the target",
            )


def target_compiler(target: Target) -> list[str]:
    """Command of a C compiler for the target's processor.

    Raises:
        ToolError: the `ziglang` package isn't there.
    """
    codegen = target.spec.codegen
    cpu = codegen.mcpu.replace("-", "_")
    if target.bare_metal:
        cpu += "".join(codegen.mattr)  # zig takes away the extensions that a licensee may leave out
    if target.webassembly:
        cpu += "".join(codegen.mattr).replace("-", "_")
    return [*_zig(), "cc", "-target", target.spec.toolchain.zig_target, f"-mcpu={cpu}"]


def _zig() -> list[str]:
    found = zig()
    if found is None:
        raise ToolError("static libraries need zig's compiler and archiver", hint="pip install ziglang")
    return [str(found)]


def _manifest(compiled: Compiled, sizes: StaticSizes) -> dict[str, Any]:
    return {
        **compiled.image.manifest,
        "sizes": {
            "code": sizes.code,
            "weights": sizes.weights,
            "arena": sizes.arena,
            "stack": sizes.stack,
            "golden": sizes.golden,
            "fast_arena": sizes.fast_arena,
        },
    }
