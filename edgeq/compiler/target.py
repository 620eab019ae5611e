"""Targets: folders with a target.toml; a new CPU is a new folder and no edit here."""

from __future__ import annotations

import difflib
import importlib.util
import platform
import sys
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeq.compiler.costs import Costs, Kind, load_costs
from edgeq.errors import TargetError

if TYPE_CHECKING:
    from edgeq.compiler.kernels.base import KernelSpec

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

SUGGESTED = 3  # names that the error of an unknown target offers
ACTIVATION_BIAS = 128  # what is added to an int8 value where it is stored as u8


class Codegen(BaseModel):
    """The dictionary TVM takes as its target."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["llvm", "c"]
    mtriple: str = ""
    mcpu: str = ""
    mattr: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list, serialization_alias="cl-opt")
    mabi: str | None = None
    mfloat_abi: str | None = Field(default=None, alias="mfloat-abi")

    @model_validator(mode="after")
    def _names_a_processor(self) -> Codegen:
        if self.kind == "llvm" and not (self.mtriple and self.mcpu):
            raise ValueError('kind = "llvm" needs mtriple and mcpu')
        return self


class Toolchain(BaseModel):
    """Who assembles for this target and who can execute it elsewhere."""

    model_config = ConfigDict(extra="forbid")
    zig_target: str = ""
    support: list[str] = Field(default_factory=list)
    emulator: str | None = None
    emulator_args: list[str] = Field(default_factory=list)
    emulator_package: str | None = None


class Memory(BaseModel):
    """One memory of a device without an operating system; `fast`: a RAM for the second arena (`--fast-ram`)."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: Literal["flash", "ram"]
    size: int = Field(gt=0)
    fast: bool = False


class Board(BaseModel):
    """What `edgeq bench` builds a firmware for, and the machine of QEMU that runs it."""

    model_config = ConfigDict(extra="forbid")
    machine: str
    cpu: str
    flags: list[str] = Field(default_factory=list)
    flash: int = Field(ge=0)
    ram: int = Field(ge=0)
    fast_ram: int | None = Field(default=None, ge=0)


class TargetFile(BaseModel):
    """Schema of target.toml."""

    model_config = ConfigDict(extra="forbid")
    name: str
    description: str
    arch: Literal["x86_64", "aarch64", "armv7", "riscv64", "thumb", "wasm32", "c"]
    isa: str = Field(pattern=r"^[a-z0-9]+$")
    vector_bits: int = Field(ge=64, le=2048)
    activation: Literal["s8", "u8"]
    cpu_features: list[str]
    codegen: Codegen
    toolchain: Toolchain = Field(default_factory=Toolchain)
    memories: list[Memory] = Field(default_factory=list)
    board: Board | None = None

    @model_validator(mode="after")
    def _tools_fit(self) -> TargetFile:
        if (self.arch == "c") != (self.codegen.kind == "c"):
            raise ValueError('arch = "c" and kind = "c" belong together')
        if self.arch != "c" and not self.toolchain.zig_target:
            raise ValueError("toolchain.zig_target is missing")
        return self


@dataclass(frozen=True)
class Target:
    """One CPU with its instruction set, tools and inner products.

    Attributes:
        name: the folder's name, as given to `--target`.
        folder: where target.toml stands.
        spec: the checked file, merged with those that it extends.
        bases: folders of the targets that it extends, nearest first: they have what its own folder lacks.
    """

    name: str
    folder: Path
    spec: TargetFile = field(compare=False, hash=False)
    bases: tuple[Path, ...] = ()

    def file(self, name: str) -> Path:
        """A file of the target: its own, else that of the nearest target it extends."""
        return next((p for folder in (self.folder, *self.bases) if (p := folder / name).is_file()), self.folder / name)

    @property
    def isa(self) -> str:
        """Short name of the instruction set, as it ends kernel names (`__avx2`)."""
        return self.spec.isa

    @property
    def arch(self) -> str:
        return self.spec.arch

    @property
    def vector_bytes(self) -> int:
        """Width of the widest vector register in bytes."""
        return self.spec.vector_bits // 8

    @property
    def stores_u8(self) -> bool:
        """True where int8 activations are stored as value + 128."""
        return self.spec.activation == "u8"

    @property
    def bare_metal(self) -> bool:
        """True where no operating system loads anything: models become static libraries or C source."""
        return self.arch in ("thumb", "c")

    @property
    def emits_c(self) -> bool:
        """True where models become C source (artifact/source.py)."""
        return self.arch == "c"

    @property
    def webassembly(self) -> bool:
        """True where models become modules for an engine (artifact/wasm.py)."""
        return self.arch == "wasm32"

    @property
    def alignment(self) -> int:
        """Bytes that every buffer and constant starts on a multiple of."""
        return 8 if self.bare_metal else 64

    def specialise(self, spec: KernelSpec, constants: dict[str, Any]) -> KernelSpec:
        """The kernel to use for what `spec` computes: inner.py may know a better family than the general one."""
        chosen = getattr(self.inner, "specialise", None)
        return spec if chosen is None else chosen(spec, constants)

    @cached_property
    def costs(self) -> Costs | None:
        """The folder's costs.toml."""
        return load_costs(self.file("costs.toml").parent)

    def cost(self, kind: Kind, bits: int) -> float | None:
        """Estimated cost of a multiply-accumulate with weights of `bits` bits, in the unit of `costs`; None: not known.

        Args:
            kind: `conv` (k×k), `gemm` (1×1 convolutions and matrix products) or `depthwise`.
            bits: 1 to 8.
        """
        return None if self.costs is None else self.costs.of(kind, bits)

    def tvm_target(self) -> dict[str, Any]:
        """The dictionary for tvm.target.Target."""
        return self.spec.codegen.model_dump(exclude_defaults=True, by_alias=True)

    @cached_property
    def inner(self) -> ModuleType:
        """The folder's inner.py: the inner products of this instruction set (imports tvm)."""
        path = self.file("inner.py")
        spec = importlib.util.spec_from_file_location(f"edgeq_target_{self.name.replace('-', '_')}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise TargetError(f"target {self.name!r} has no inner.py", where=str(self.folder))
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    def runs_here(self) -> bool:
        """Whether this machine's processor executes this target's code natively."""
        return self.arch == host_arch() and set(self.spec.cpu_features) <= host_features()


def host_arch() -> str:
    """This machine's architecture as target.toml names it."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7", "armv8l": "armv7"}.get(machine, machine)


@lru_cache(maxsize=1)
def host_features() -> frozenset[str]:
    """CPU features of this machine, from /proc/cpuinfo, in target.toml's spelling."""
    names = {"asimddp": "dotprod", "avx512_vnni": "avx512vnni", "avx_vnni": "avxvnni", "sse4_1": "sse41"}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(names.get(word, word) for word in value.split())
    return frozenset()


def target_root() -> Path:
    """The folder of built-in targets: `targets/` of a checkout or `edgeq/_targets` of a wheel."""
    package = Path(__file__).resolve().parent.parent
    wheel = package / "_targets"
    return wheel if wheel.is_dir() else package.parent / "targets"


def list_targets() -> list[str]:
    """Names of the built-in targets, sorted."""
    return sorted(p.parent.name for p in target_root().glob("*/target.toml"))


def list_microcontrollers() -> list[Target]:
    """The built-in targets that list their memories, sorted by name."""
    return [
        load_target(name) for name in list_targets() if "memories" in _read(name, target_folder(name) / "target.toml")
    ]


def target_folder(name: str) -> Path:
    """Where the target of that name (or path) is described."""
    return Path(name) if ("/" in name or "\\" in name) else target_root() / name


def _read(name: str, path: Path) -> dict[str, Any]:
    """What target.toml says, unchecked."""
    if not path.is_file():
        near = _near(name)
        guess = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise TargetError(
            f"unknown target {name!r}", where=str(path), hint=f"{guess}available: {', '.join(list_targets())}"
        )
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return raw
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"target {name!r} has a broken target.toml", where=str(path), why=str(error)) from error


def _near(name: str) -> list[str]:
    """Built-in targets that may be meant, likeliest first: names that hold what was given, then those spelled alike."""
    wanted, names = name.lower().replace("_", "-"), list_targets()
    holding = [known for known in names if wanted and (wanted in known or wanted == known.rpartition("cortex-")[2])]
    alike = difflib.get_close_matches(wanted, names, n=SUGGESTED)
    return list(dict.fromkeys([*sorted(holding, key=len), *alike]))[:SUGGESTED]


def load_target(name: str) -> Target:
    """The target of that name, or in that folder; `host` resolves to the best one this processor can run.

    Raises:
        TargetError: unknown name, broken target.toml, or no entry of an alias runs on this processor.
    """
    folder = target_folder(name)
    path = folder / "target.toml"
    raw = _read(name, path)
    if "variants" in raw:
        raise TargetError(
            f"target {name!r} stands for several: {', '.join(_names(name, path, raw, 'variants'))}",
            where=str(path),
            hint="name one of them here",
        )
    if "resolve" in raw:
        return _resolve(name, path, _names(name, path, raw, "resolve"))
    merged, bases = _extended(name, path, raw)
    try:
        return Target(folder.name, folder, TargetFile.model_validate(merged), bases)
    except ValidationError as error:
        first = error.errors()[0]
        raise TargetError(
            f"target {name!r} has a broken target.toml",
            where=f"{path}, {'.'.join(map(str, first['loc']))}",
            why=first["msg"],
            hint="docs/new-target.md lists the keys",
        ) from error


def _extended(name: str, path: Path, raw: dict[str, Any]) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """target.toml on top of the one it extends, tables key by key; the folders of all that it extends."""
    merged, place = dict(raw), path
    bases: list[Path] = []
    while "extends" in merged:
        base = merged.pop("extends")
        if not isinstance(base, str):
            raise TargetError(f"target {name!r}: `extends` must be the name of a target", where=str(place))
        folder = (place.parent / base).resolve() if "/" in base else target_root() / base
        if folder in (path.parent.resolve(), *bases):
            raise TargetError(f"target {name!r}: `extends` goes in a circle", where=str(place), why=base)
        place = folder / "target.toml"
        below = _read(base, place)
        if "variants" in below or "resolve" in below:
            raise TargetError(f"target {name!r} can't extend {base!r}", where=str(path), why="it stands for others")
        tables = {
            key: {**below[key], **merged[key]} for key in merged if _is_table(below, key) and _is_table(merged, key)
        }
        merged = {**below, **merged, **tables}
        if "extends" not in below:
            merged.pop("extends", None)
        bases.append(folder)
    return merged, tuple(bases)


def _is_table(raw: dict[str, Any], key: str) -> bool:
    return isinstance(raw.get(key), dict)


def load_variants(name: str) -> list[Target]:
    """The targets whose code goes into one artifact, best first: those a target.toml lists as `variants`, else one.

    Raises:
        TargetError: see `load_target`; variants of different architectures.
    """
    path = target_folder(name) / "target.toml"
    raw = _read(name, path)
    if "variants" not in raw:
        return [load_target(name)]
    targets = [load_target(one) for one in _names(name, path, raw, "variants")]
    if len({target.arch for target in targets}) != 1:
        raise TargetError(f"target {name!r}: `variants` are of different architectures", where=str(path))
    return targets


def _names(name: str, path: Path, raw: dict[str, Any], key: str) -> list[str]:
    names = raw[key]
    if not isinstance(names, list) or not names or not all(isinstance(c, str) for c in names):
        raise TargetError(f"target {name!r}: `{key}` must be a list of names", where=str(path))
    return names


def _resolve(name: str, path: Path, candidates: list[str]) -> Target:
    for candidate in candidates:
        target = load_target(candidate)
        if target.runs_here():
            return target
    raise TargetError(
        f"target {name!r}: this processor runs none of {', '.join(candidates)}",
        where=str(path),
        why=f"it is a {host_arch()} without the instruction sets they need",
        hint="name a target to cross-compile for; `edgeq targets` lists them",
    )
