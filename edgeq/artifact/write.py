"""Writes an artifact: images + kernel objects -> one relocation-free shared object with a trailer."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import reduce
from operator import and_
from pathlib import Path

from edgeq.artifact import elf as elf_file
from edgeq.artifact import format as layout
from edgeq.artifact.elf import PF_R, PF_X, Elf, ElfError
from edgeq.artifact.format import ArchInfo, ArtifactSizes, ModelImage, Variant
from edgeq.artifact.image import artifact_sizes, pack_images
from edgeq.artifact.tools import linker, object_compiler, run_tool
from edgeq.cache import cached_file, content_key
from edgeq.errors import CompileError, EdgeqError, ToolError
from edgeq.runtime.sources import runtime_root

# Everything but the descriptor stays local: no symbol can be interposed, so no call goes through a PLT.
_VERSION_SCRIPT = "{ global: edgeq_model; local: *; };\n"
_MEM_FLAGS = ["-O2", "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=all", "-fPIC", "-g0"]


def write(image: ModelImage, objects: Sequence[Path], target: ArchInfo, path: str | Path) -> ArtifactSizes:
    """Links `objects` and `image`, a model's only program, into the artifact `path`: see `write_variants`."""
    return write_variants([Variant(target, [image])], objects, path)


def write_variants(variants: Sequence[Variant], objects: Sequence[Path], path: str | Path) -> ArtifactSizes:
    """Links `objects` and all programs' images into the artifact `path`.

    Args:
        variants: the programs for each kind of CPU, best first: loaders take the first that the CPU can run.
        objects: relocatable objects of the kernels and of every program's `entry` (signature: `edgeq_step_fn` in
            artifact.h). No writable data; no undefined symbol but memcpy, memmove, memset, memcmp.
        path: the file; replaced in one step when everything succeeded, untouched otherwise.

    Returns:
        Sizes in bytes.

    Raises:
        CompileError: images contradict themselves or each other, or the objects need something an artifact can't have.
        ToolError: no linker, no space, or the destination can't be written.
    """
    path = Path(path)
    packed = pack_images(variants)
    helpers = helper_objects(variants[0].target.arch)
    try:
        with tempfile.TemporaryDirectory(prefix="edgeq-link-") as folder:
            linked = _link(Path(folder), packed, [*objects, *helpers], variants)
        data, sizes = _with_trailer(linked, packed, variants)
        replace_file(path, data)
    except OSError as error:
        raise write_error(path, error) from error
    return sizes


def write_error(path: Path, error: OSError) -> EdgeqError:
    """The user's message for a failed write of `path`."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return ToolError(
        f"{path.name} can't be written",
        where=str(error.filename or path),
        why="there is no space left" if full else error.strerror or str(error),
        hint="free some space, or choose another folder with -o"
        if full
        else "check that the folder is there and yours",
    )


def replace_file(path: Path, data: bytes | bytearray) -> None:
    """Writes `data` to `path` so that no reader and no crash ever sees half of it. Raises `OSError`."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def helper_objects(arch: str) -> list[Path]:
    """What compilers call without being asked: memcpy and its family, and on 32 bits long division. Built once."""
    folder, compiler = runtime_root() / "artifact", object_compiler(arch)
    sources = [folder / "memory.c", *([folder / "division.c"] if arch in elf_file.NARROW else [])]
    objects = []
    for source in sources:
        key = content_key([source.read_bytes(), arch, *compiler[1:], *_MEM_FLAGS])

        def build(made: Path, source: Path = source) -> None:
            run_tool([*compiler, *_MEM_FLAGS, "-c", source, "-o", made], f"compiling the artifact's {source.name}")

        objects.append(cached_file("artifact", f"{source.stem}-{arch}.o", key, build))
    return objects


def _entries(variants: Sequence[Variant]) -> dict[int, str]:
    """Where in the packed images the entry fields are → symbol."""
    symbols = [image.entry for variant in variants for image in variant.programs]
    field = layout.IMAGE.offsets()["entry"]
    return {index * layout.IMAGE.size + field: symbol for index, symbol in enumerate(symbols)}


def _link(folder: Path, packed: bytearray, objects: Sequence[Path], variants: Sequence[Variant]) -> bytes:
    arch, entries = variants[0].target.arch, _entries(variants)
    carrier = folder / "image.o"
    carrier.write_bytes(elf_file.image_object(arch, packed, entries))
    script = folder / "symbols.map"
    script.write_text(_VERSION_SCRIPT)
    listing = folder / "objects.rsp"
    listing.write_text("".join(f'"{_quoted(item)}"\n' for item in [carrier, *objects]))
    linked = folder / "linked.so"
    command = [
        *linker(),
        *(
            "-shared",
            "--gc-sections",
            "-s",
            "-e",
            next(iter(entries.values())),
            "-Bsymbolic",
            "--no-undefined",
            "--build-id=none",
        ),
        *("-z", "rodynamic", "-z", "norelro", "-z", "noexecstack", "-z", "text", "--hash-style=gnu"),
        # Pages of 16 and 64 KiB exist on Arm; the file must be mappable there too.
        *("-z", "max-page-size=65536" if arch == "aarch64" else "max-page-size=4096"),
        f"--version-script={script}",
        *("-o", str(linked), f"@{listing}"),
    ]
    try:
        run_tool(command, "linking the artifact")
    except ToolError as error:
        raise _link_error(error) from error
    return linked.read_bytes()


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("\\", "\\\\").replace('"', '\\"')


def _link_error(error: ToolError) -> EdgeqError:
    """An undefined symbol or a bad relocation is the compiler's fault, anything else the tool's."""
    words = error.why or ""
    if "undefined symbol" in words or "undefined hidden symbol" in words or "relocation" in words:
        return CompileError(
            "the kernels need something that an artifact can't have",
            where=error.where,
            why=words,
            hint="an artifact calls nothing outside itself: this is a bug of the kernel that is named",
        )
    return error


def _with_trailer(linked: bytes, packed: bytearray, variants: Sequence[Variant]) -> tuple[bytearray, ArtifactSizes]:
    places = list(_entries(variants))
    try:
        elf = elf_file.parse(linked)
        elf_file.check_relocation_free(linked, elf)
        image_vaddr, image_offset = _find_image(linked, elf, packed, places)
        for place in places:
            distance = int.from_bytes(linked[image_offset + place : image_offset + place + 8], "little", signed=True)
            elf.file_offset(image_vaddr + place + distance, 1, PF_R | PF_X)
    except ElfError as error:
        raise CompileError(
            "the linked kernels can't be an artifact",
            why=str(error),
            hint="kernels have no writable globals, no address tables and no imports",
        ) from error
    data = bytearray(linked)
    data += bytes(-len(data) % 8)
    trailer = layout.TRAILER.pack(
        magic=layout.TRAILER_MAGIC,
        abi_version=layout.ABI_VERSION,
        arch=layout.ARCHES[variants[0].target.arch],
        cpu_features=reduce(and_, (variant.target.feature_bits for variant in variants)),
        file_size=len(data) + layout.TRAILER.size,
        image_offset=image_offset,
        image_vaddr=image_vaddr,
        image_size=len(packed),
        entry_vaddr=elf.entry,
        code_size=(code := elf_file.code_size(linked)),
    )
    data += trailer[: -layout.DIGEST_SIZE]
    data += hashlib.blake2b(data, digest_size=layout.DIGEST_SIZE).digest()
    return data, artifact_sizes(packed, variants, len(data), code)


def _find_image(linked: bytes, elf: Elf, packed: bytearray, entries: Sequence[int]) -> tuple[int, int]:
    """(virtual address, file offset) of the images in the linked object; only the `entries` differ there."""
    entry_at = entries[0]
    place = linked.find(packed[:entry_at])
    while place >= 0:
        found = bytearray(linked[place : place + len(packed)])
        for entry in entries:
            found[entry : entry + 8] = bytes(8)
        same = found == packed
        for segment in elf.loads() if same else []:
            if segment.offset <= place and place + len(packed) <= segment.offset + segment.filesz:
                return segment.vaddr + place - segment.offset, place
        place = linked.find(packed[:entry_at], place + 1)
    raise ElfError("the image isn't in the linked object")
