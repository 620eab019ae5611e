"""Reads and checks an artifact of any architecture in Python, without running anything of it."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.artifact import elf as elf_file
from edgeq.artifact import format as layout
from edgeq.artifact.elf import PF_R, PF_X, ElfError
from edgeq.artifact.format import ArchInfo, ArtifactSizes, Golden, ModelImage, StepInfo, TensorInfo, Variant
from edgeq.artifact.image import artifact_sizes, kinship_problem, tensor_problem
from edgeq.errors import ArtifactError

_REBUILD = "write it again with `edgeq compile`, or copy it again from where it came"


@dataclass(frozen=True)
class Artifact:
    """A parsed artifact.

    Attributes:
        path: where it was read from.
        variants: the programs for each kind of CPU, best first: tables, weights (views of the file's bytes), manifests
            and golden vectors.
        sizes: bytes of file, code, weights, image and arena.
        digest: BLAKE2b-256 of the contents, hex.
        abi_version: of the layout.
    """

    path: Path
    variants: list[Variant]
    sizes: ArtifactSizes
    digest: str
    abi_version: int

    @property
    def target(self) -> ArchInfo:
        """Architecture, and the CPU features that the best variant uses."""
        return self.variants[0].target

    @property
    def image(self) -> ModelImage:
        """The first program of the best variant: often the only one."""
        return self.variants[0].programs[0]


class _BadImageError(ValueError):
    """Something inside contradicts itself; the text says what."""


def read(path: str | Path, *, check_digest: bool = True) -> Artifact:
    """Reads `path`; every offset in it is checked before it is used.

    Args:
        path: the artifact.
        check_digest: hash the contents; leave it on unless somebody has just done it.

    Raises:
        ArtifactError: not readable, not an artifact, truncated, changed, or of another ABI version.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path.name} can't be read", where=str(path), why=error.strerror, hint="check the path"
        ) from error
    trailer = _trailer(path, data, check_digest)
    try:
        common = ArchInfo.from_codes(trailer["arch"], trailer["cpu_features"])
        packed = _image_bytes(data, trailer, common)
        variants = _parse_variants(packed, trailer)
    except (ElfError, _BadImageError, ValueError, struct.error) as error:
        raise ArtifactError(
            f"{path.name} contradicts itself", where=str(path), why=str(error), hint=_REBUILD
        ) from error
    sizes = artifact_sizes(packed, variants, len(data), trailer["code_size"])
    return Artifact(path, variants, sizes, trailer["digest"].hex(), trailer["abi_version"])


def _trailer(path: Path, data: bytes, check_digest: bool) -> dict[str, Any]:
    size = layout.TRAILER.size
    trailer = layout.TRAILER.unpack(data, len(data) - size) if len(data) >= size else None
    if trailer is None or trailer["magic"] != layout.TRAILER_MAGIC:
        if data.startswith(b"\x7fELF"):
            raise ArtifactError(
                f"{path.name} is truncated", where=str(path), why="no edgeq trailer at the end", hint=_REBUILD
            )
        raise ArtifactError(
            f"{path.name} is not an edgeq artifact",
            where=str(path),
            why="it is empty" if not data else "no edgeq trailer at the end",
            hint="artifacts are written by `edgeq compile`",
        )
    digest = hashlib.blake2b(memoryview(data)[: -layout.DIGEST_SIZE], digest_size=layout.DIGEST_SIZE).digest()
    if check_digest and digest != trailer["digest"]:
        raise ArtifactError(
            f"{path.name} was changed after it was written",
            where=str(path),
            why="the contents don't match the BLAKE2b digest in the trailer",
            hint=_REBUILD,
        )
    if trailer["abi_version"] != layout.ABI_VERSION:
        raise ArtifactError(
            f"{path.name} was written for another version of the runtime",
            where=str(path),
            why=f"artifact of ABI {trailer['abi_version']}, this edgeq has {layout.ABI_VERSION}",
            hint="compile the model again with this version",
        )
    if trailer["file_size"] != len(data):
        raise ArtifactError(
            f"{path.name} is truncated",
            where=str(path),
            why=f"{len(data)} bytes, should be {trailer['file_size']}",
            hint=_REBUILD,
        )
    return trailer


def _image_bytes(data: bytes, trailer: dict[str, Any], target: ArchInfo) -> memoryview:
    body = memoryview(data)[: -layout.TRAILER.size]
    elf = elf_file.parse(body)
    if elf.machine != elf_file.MACHINES[target.arch]:
        raise ElfError("ELF header and trailer name different architectures")
    offset, size = trailer["image_offset"], trailer["image_size"]
    if elf.file_offset(trailer["image_vaddr"], size, PF_R) != offset or trailer["image_vaddr"] % layout.ALIGNMENT:
        raise ElfError("the trailer's image offset and address differ, or aren't aligned")
    elf.file_offset(trailer["entry_vaddr"], 1, PF_R | PF_X)
    packed = body[offset : offset + size]
    field = layout.IMAGE.offsets()["entry"]
    for index in range(_image_count(packed)):
        place = index * layout.IMAGE.size
        entry = trailer["image_vaddr"] + place + field
        entry += layout.IMAGE.unpack(packed, place)["entry"]
        elf.file_offset(entry, 1, PF_R | PF_X)
        if index == 0 and entry != trailer["entry_vaddr"]:
            raise ElfError("image and trailer name different entry points")
    return packed


def _image_count(packed: memoryview) -> int:
    """How many images there are: checked to be there."""
    first = layout.IMAGE.unpack(packed)
    variants, programs = first["variant_count"], first["program_count"]
    if not 1 <= variants <= layout.MAX_VARIANTS or not 1 <= programs <= layout.MAX_PROGRAMS:
        raise _BadImageError("the number of variants or programs is out of range")
    if variants * programs * layout.IMAGE.size > len(packed):
        raise _BadImageError("the images are longer than what holds them")
    return int(variants * programs)


def _parse_variants(packed: memoryview, trailer: dict[str, Any]) -> list[Variant]:
    count = _image_count(packed)
    headers = [layout.IMAGE.unpack(packed, index * layout.IMAGE.size) for index in range(count)]
    images = []
    for index, header in enumerate(headers):
        if header["index"] != index or any(header[k] != headers[0][k] for k in ("variant_count", "program_count")):
            raise _BadImageError(f"image {index} contradicts the first one")
        images.append(_parse_image(packed[index * layout.IMAGE.size :]))
    variants, step = [], headers[0]["program_count"]
    for start in range(0, count, step):
        features = {header["cpu_features"] for header in headers[start : start + step]}
        if len(features) != 1:
            raise _BadImageError("the programs of a variant need different CPUs")
        target = ArchInfo.from_codes(trailer["arch"], features.pop())
        variants.append(Variant(target, images[start : start + step]))
    problem = kinship_problem(variants)
    if problem:
        raise _BadImageError(problem)
    return variants


def _parse_image(packed: memoryview) -> ModelImage:
    header = layout.IMAGE.unpack(packed)
    if header["magic"] != layout.IMAGE_MAGIC or header["header_size"] != layout.IMAGE.size:
        raise _BadImageError("no image where the trailer points to")
    if header["image_size"] != len(packed) or not header["step_count"] or not header["output_count"]:
        raise _BadImageError("the image's size or counts are wrong")
    if not 1 <= header["arena_size"] < 2**40 or not 1 <= header["max_threads"] <= layout.MAX_THREADS:
        raise _BadImageError("the image's arena or threads are out of range")
    if header["flags"] & ~layout.IMAGE_PADS:
        raise _BadImageError(f"unknown flags {header['flags']:#x}")
    strings = _part(packed, header, "strings", header["strings_size"])
    if not strings or strings[-1] != 0:
        raise _BadImageError("the image's strings don't end")
    steps_at = _part(packed, header, "steps", header["step_count"] * layout.STEP.size)
    steps = [_parse_step(steps_at, index, bytes(strings)) for index in range(header["step_count"])]
    count = header["input_count"] + header["output_count"]
    table = _part(packed, header, "tensors", count * layout.TENSOR.size)
    tensors = [_parse_tensor(table, index, bytes(strings), header["arena_size"]) for index in range(count)]
    image = ModelImage(
        steps=steps,
        inputs=tensors[: header["input_count"]],
        outputs=tensors[header["input_count"] :],
        arena_size=header["arena_size"],
        weights=_part(packed, header, "weights", header["weights_size"]),
        max_threads=header["max_threads"],
        manifest=json.loads(bytes(_part(packed, header, "manifest", header["manifest_size"]))),
        pads=bool(header["flags"] & layout.IMAGE_PADS),
    )
    image.golden = _parse_golden(packed, header, image)
    return image


def _part(packed: memoryview, header: dict[str, Any], name: str, size: int) -> memoryview:
    start = header[name]
    if start > len(packed) or size > len(packed) - start:
        raise _BadImageError(f"{name} are outside the image")
    return packed[start : start + size]


def _string(strings: bytes, offset: int) -> str:
    if offset >= len(strings):
        raise _BadImageError("a name is outside the strings")
    return strings[offset : strings.index(b"\0", offset)].decode("utf-8", "replace")


def _parse_step(table: memoryview, index: int, strings: bytes) -> StepInfo:
    record = layout.STEP.unpack(table, index * layout.STEP.size)
    if not 1 <= record["tasks"] < 2**31 or not record["grain"]:
        raise _BadImageError(f"step {index} is out of range")
    name, kind = _string(strings, record["name"]), _string(strings, record["kind"])
    return StepInfo(name, kind, record["tasks"], record["macs"], record["bytes"], record["grain"])


def _parse_tensor(table: memoryview, index: int, strings: bytes, arena_size: int) -> TensorInfo:
    record = layout.TENSOR.unpack(table, index * layout.TENSOR.size)
    dtypes = {code: name for name, code in layout.DTYPES.items()}
    if record["dtype"] not in dtypes or record["rank"] > layout.MAX_RANK:
        raise _BadImageError(f"tensor {index} has no known dtype or rank")
    tensor = TensorInfo(
        name=_string(strings, record["name"]),
        dtype=dtypes[record["dtype"]],
        shape=record["shape"][: record["rank"]],
        offset=record["offset"],
        scale=record["scale"],
        zero_point=record["zero_point"],
        strides=record["strides"][: record["rank"]],
        storage_bias=record["storage_bias"],
        layout=_string(strings, record["layout"]),
    )
    problem = tensor_problem(tensor, arena_size)
    if problem or tensor.nbytes != record["size"]:
        raise _BadImageError(f"tensor {tensor.name}: {problem or 'wrong size'}")
    return tensor


def _parse_golden(packed: memoryview, header: dict[str, Any], image: ModelImage) -> list[Golden]:
    tensors = [*image.inputs, *image.outputs]
    stride = sum((t.count * t.numpy_dtype.itemsize + 7) // 8 * 8 for t in tensors)
    if header["golden_count"] and stride != header["golden_stride"]:
        raise _BadImageError("the golden vectors don't fit the inputs and outputs")
    data = _part(packed, header, "golden", header["golden_count"] * stride)
    vectors, place = [], 0
    for _ in range(header["golden_count"]):
        arrays = []
        for tensor in tensors:
            array = np.frombuffer(data, tensor.numpy_dtype.newbyteorder("<"), tensor.count, place)
            arrays.append(array.reshape(tensor.shape))
            place += (array.nbytes + 7) // 8 * 8
        vectors.append(Golden(arrays[: len(image.inputs)], arrays[len(image.inputs) :]))
    return vectors
