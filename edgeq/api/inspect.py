"""`edgeq inspect`: what is inside a file, and whether it fits a device's memories before anything is flashed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeq.errors import ModelError, UsageError

if TYPE_CHECKING:
    from edgeq.api.result import Calibration, Progress
    from edgeq.compiler.fit import Fit

STATIC_KIND, SOURCE_KIND = "static library", "C source"


class _Layer(BaseModel):
    name: str
    ops: list[str]
    kernel: str
    code: int = Field(ge=0)
    weights: int = Field(ge=0)
    macs: int = Field(ge=0)


class _Sizes(BaseModel):
    code: int = Field(default=0, ge=0)
    weights: int = Field(ge=0)
    arena: int = Field(ge=0)
    stack: int = Field(default=0, ge=0)


class _Fast(BaseModel):
    room: int = Field(ge=0)
    size: int = Field(ge=0)
    buffers: list[int]


class _Manifest(BaseModel):
    """What a manifest must say so that it can be judged; it comes from a file."""

    model_config = ConfigDict(extra="allow")
    target: str
    layers: list[_Layer]
    memory: list[tuple[str, Literal["input", "output", "value", "scratch"], int, int, int, int]]
    sizes: _Sizes
    fast: _Fast | None = None


def inspect(
    path: str | Path,
    *,
    target: str | None = None,
    flash: int | None = None,
    ram: int | None = None,
    fast_ram: int | None = None,
    calib: Calibration | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Describe a file; with a target (or for a static library's folder) also say whether it fits.

    Args:
        path: ONNX model, integer graph, artifact, or the folder of a static library or of C source.
        target: compile the model for it in a temporary folder and compare with its memories; a compiled file is judged
            as it is, by the memories of the target it was compiled for.
        flash, ram: bytes that are free for the model; by default all that target.toml lists.
        fast_ram: bytes of a second, fast memory for an arena of its own, see `edgeq.compile`.
        calib: calibration data of a float model; None: random data, which changes hardly a size.
        progress: called with (stage, done, total).
        **settings: of `edgeq.quantize`.

    Returns:
        see `describe`; `fit` (see `edgeq.compiler.fit.Fit.as_dict`) where it was asked for.

    Raises:
        ModelError, ArtifactError: unreadable or broken.
        UsageError: a compiled file for another target; a target without such limits.
        Everything that `edgeq.compile` raises.
    """
    from edgeq.evaluate.describe import describe

    limits = {"flash": flash, "ram": ram}
    judged = target is not None or flash is not None or ram is not None
    if Path(path).is_dir():
        facts = _describe_folder(Path(path))
        return facts | {"fit": _fit_of_file(facts, target, limits).as_dict()}
    facts = describe(path)
    if not judged:
        return facts
    if facts["kind"] == "artifact":
        return facts | {"fit": _fit_of_file(facts, target, limits).as_dict()}
    if target is None:
        raise UsageError(
            "a model's size depends on the target", where=str(path), hint="give --target, as in --target cortex-m4"
        )
    random = facts["kind"] == "float model" and calib is None
    found = _fit_of_model(path, target, "random" if random else calib, settings, progress, limits, fast_ram)
    return facts | {"fit": found.as_dict()}


def _fit_of_model(
    path: str | Path,
    target: str,
    calib: Calibration | None,
    settings: Mapping[str, Any],
    progress: Progress | None,
    limits: Mapping[str, int | None],
    fast_ram: int | None,
) -> Fit:
    """Compiles the model as `edgeq compile --format static` does and keeps nothing but the sizes."""
    from edgeq.api.result import Clock
    from edgeq.api.static import compile_one
    from edgeq.artifact.source import write_source
    from edgeq.artifact.static import write_static
    from edgeq.compiler import load_target
    from edgeq.compiler.fit import check_fast_room, fit, free_ram

    device = load_target(target)
    if device.webassembly:
        raise UsageError(
            "a WebAssembly module has no memories to fit",
            where=f"--target {target}",
            hint="`edgeq compile` prints its sizes",
        )
    room = free_ram(device, limits.get("ram"))
    fast = check_fast_room(device, fast_ram)
    _, compiled, _ = compile_one(path, device, calib, settings, progress, Clock(), room=room, fast_room=fast)
    with tempfile.TemporaryDirectory(prefix="edgeq-inspect-") as scratch:
        if device.emits_c:
            return fit(compiled, write_source(compiled, Path(scratch), "model"), **limits)
        return fit(compiled, write_static(compiled, Path(scratch), "model"), **limits)


def _describe_folder(folder: Path) -> dict[str, Any]:
    """The folder of a static library or of C source, by its manifest."""
    kinds = {"lib{}.a": STATIC_KIND, "{}_weights.c": SOURCE_KIND}
    found = [
        (path, folder / pattern.format(path.stem), kind)
        for path in sorted(folder.glob("*.json"))
        for pattern, kind in kinds.items()
        if (folder / pattern.format(path.stem)).is_file()
    ]
    if len(found) != 1:
        raise ModelError(
            "this folder is no compiled model",
            where=str(folder),
            why=f"it holds {len(found)} manifests (NAME.json beside libNAME.a or NAME_weights.c); one is needed",
            hint="give the folder that `edgeq compile --target cortex-m4` wrote",
        )
    ((place, file, kind),) = found
    try:
        manifest = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError("the manifest is damaged", where=str(place), why=str(error)) from error
    checked = _checked(manifest, place)
    return {
        "kind": kind,
        "path": str(folder),
        "file_bytes": file.stat().st_size,
        "sizes": checked.sizes.model_dump(),
        "manifest": manifest,
    }


def _checked(manifest: Any, where: str | Path) -> _Manifest:
    try:
        return _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(
            "the manifest can't be judged",
            where=f"{where}, {'.'.join(map(str, first['loc']))}",
            why=first["msg"],
            hint="compile the model again with this version of edgeq",
        ) from error


def _largest(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest to judge, with sizes; of an artifact that of the program that needs the largest arena on any CPU."""
    if facts["kind"] != "artifact":
        return {**facts["manifest"], "sizes": facts["sizes"]}
    from edgeq.artifact.read import read

    images = [image for variant in read(Path(facts["path"])).variants for image in variant.programs]
    image = max(images, key=lambda each: each.arena_size)
    return {**image.manifest, "sizes": {**facts["sizes"], "arena": image.arena_size}}


def _fit_of_file(facts: Mapping[str, Any], target: str | None, limits: Mapping[str, int | None]) -> Fit:
    """A compiled file against the memories of its own target."""
    from edgeq.compiler.fit import fit_manifest
    from edgeq.compiler.target import list_targets, load_target

    manifest = _checked(_largest(facts), facts["path"])
    if target is not None and target.rstrip("/").rpartition("/")[2] != manifest.target:
        raise UsageError(
            "this file was compiled for another target",
            where=str(facts["path"]),
            why=f"it is for {manifest.target}, not for {target}",
            hint="leave --target out, or inspect the model it was made from",
        )
    # A name out of a file is looked for among the built-in targets only.
    device = load_target(target or manifest.target) if target or manifest.target in list_targets() else None
    memories = device.spec.memories if device is not None else ()
    image = next((t["shape"] for t in facts.get("inputs", ()) if len(t["shape"]) == 4), ())
    return fit_manifest(manifest.model_dump(), memories, image, **limits)
