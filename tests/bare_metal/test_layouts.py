"""Zephyr module, CMake folder and CMSIS pack: what they list is there, builds, and runs on an emulated board."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import edgeq
from edgeq.artifact.layout import write_layout
from edgeq.compiler.target import load_target
from edgeq.errors import UsageError
from tests.conftest import ROOT

FIRMWARE = ROOT / "cpp_runtime" / "firmware"
CPU = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
LINK = ["-nostartfiles", "--specs=nosys.specs", "-T", str(FIRMWARE / "cortex-m.ld")]
LINK += ["-Wl,--defsym=FLASH_ORIGIN=0,--defsym=FLASH_LENGTH=0x80000,--defsym=RAM_ORIGIN=0x20000000"]
LINK += ["-Wl,--defsym=RAM_LENGTH=0x80000,--gc-sections"]
MAIN = """#include "net.h"
#include "semihost.h"
NET_ARENA(arena);
void edgeq_exit(int code) __attribute__((noreturn));
void edgeq_exit(int code) { edgeq_semihost_exit(code); }
int main(void) {
  for (uint32_t i = 0; i < NET_INPUT_ELEMENTS; i++) { net_input(arena)[i] = (int8_t)(i * 3); }
  net_run(arena);
  for (uint32_t i = 0; i < NET_OUTPUT_ELEMENTS; i++) { edgeq_print_number(net_output(arena)[i]); edgeq_print(" "); }
  return 0;
}
"""
# What Zephyr's extensions do, as far as the module uses them.
ZEPHYR = """
add_library(zephyr_interface INTERFACE)
set(CONFIG_EDGEQ_NET y)
set(CONFIG_EDGEQ_NET_CHECK y)
function(zephyr_include_directories)
  target_include_directories(zephyr_interface INTERFACE ${ARGV})
endfunction()
function(zephyr_library_import name path)
  add_library(${name} STATIC IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${path})
endfunction()
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC "")
  target_link_libraries(${name} zephyr_interface)
endmacro()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_library_sources_ifdef feature)
  if(${feature})
    zephyr_library_sources(${ARGN})
  endif()
endfunction()
"""
PROJECT = """cmake_minimum_required(VERSION 3.20)
project(app C)
{zephyr}
add_subdirectory({folder} net)
add_executable(app {main} {firmware}/startup.c)
target_include_directories(app PRIVATE {firmware})
target_link_libraries(app {interface} edgeq_net)
"""


@pytest.fixture(scope="module")
def graph(digits, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("layouts") / "digits.int.onnx"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", samples=16, output=path)
    return path


@pytest.fixture(scope="module")
def folders(graph, tmp_path_factory) -> dict[str, Path]:
    """A library with a Zephyr module and C source with a pack, each with the other's files too."""
    made = {}
    for kind, target, layout, other in (
        ("library", "cortex-m4", "zephyr", "cmsis"),
        ("source", "c99", "cmsis", "zephyr"),
    ):
        folder = tmp_path_factory.mktemp(kind) / "net"
        edgeq.compile(graph, target=target, output=folder, name="net", layout=layout)
        write_layout(other, folder, "net", load_target(target))
        made[kind] = folder
    return made


def run(elf: Path) -> str:
    emulator = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-kernel", str(elf)]
    done = subprocess.run(emulator, capture_output=True, text=True, timeout=60, check=True)
    return (done.stdout + done.stderr).strip()


@pytest.fixture(scope="module")
def expected(graph) -> str:
    import numpy as np

    from edgeq.integer import IntegerGraph, reference

    loaded = IntegerGraph.load(graph)
    value = loaded.model.graph.inputs[0]
    shape = tuple(int(n) for n in value.shape or ())
    x = (np.arange(np.prod(shape)) * 3).astype(np.uint8).view(np.int8).reshape(shape)
    (y,) = reference.run(loaded, {str(value.name): x}).values()
    return " ".join(map(str, y.reshape(-1).tolist()))


@pytest.mark.firmware
@pytest.mark.parametrize("kind", ["library", "source"])
@pytest.mark.parametrize("zephyr", [False, True])
def test_cmake_builds_it(folders, kind, zephyr, expected, tmp_path) -> None:
    (tmp_path / "main.c").write_text(MAIN)
    facts = {"folder": folders[kind], "main": tmp_path / "main.c", "firmware": FIRMWARE}
    text = PROJECT.format(zephyr=ZEPHYR if zephyr else "", interface="zephyr_interface" if zephyr else "", **facts)
    (tmp_path / "CMakeLists.txt").write_text(text)
    system = [
        "-DCMAKE_SYSTEM_NAME=Generic",
        "-DCMAKE_C_COMPILER=arm-none-eabi-gcc",
        f"-DCMAKE_C_FLAGS={' '.join(CPU)} -O2",
    ]
    system += ["-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY", f"-DCMAKE_EXE_LINKER_FLAGS={' '.join(LINK)}"]
    build = tmp_path / "build"
    subprocess.run(["cmake", "-S", tmp_path, "-B", build, *system], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    assert run(build / "app") == expected
    if kind == "source":
        assert bool(list(build.rglob("net_check.c.*"))) == zephyr  # the option of Kconfig, off by default in CMake


@pytest.mark.parametrize("kind", ["library", "source"])
def test_the_module_names_what_is_there(folders, kind) -> None:
    module = yaml.safe_load((folders[kind] / "zephyr" / "module.yml").read_text())
    assert module["name"] == "edgeq_net"
    assert (folders[kind] / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    options = (folders[kind] / module["build"]["kconfig"]).read_text()
    assert "config EDGEQ_NET\n" in options
    assert ("config EDGEQ_NET_CHECK\n" in options) == (kind == "source")


def pack(folder: Path) -> tuple[ElementTree.Element, Any]:
    return ElementTree.parse(folder / "edgeq.net.pdsc").getroot(), yaml.safe_load(
        (folder / "net.clayer.yml").read_text()
    )


@pytest.mark.firmware
@pytest.mark.parametrize("kind", ["library", "source"])
def test_what_the_pack_lists_builds(folders, kind, expected, tmp_path) -> None:
    root, layer = pack(folders[kind])
    (component,) = root.iter("component")
    files: dict[str, list[Path]] = {}
    for file in component.iter("file"):
        files.setdefault(file.attrib["category"], []).append(folders[kind] / file.attrib["name"])
    (tmp_path / "main.c").write_text(MAIN)
    include = [f"-I{path}" for path in (*files["include"], FIRMWARE)]
    code = [*files.get("sourceC", []), tmp_path / "main.c", FIRMWARE / "startup.c", *files.get("library", [])]
    subprocess.run(["arm-none-eabi-gcc", *CPU, "-O2", *include, *code, *LINK, "-o", tmp_path / "app"], check=True)
    assert run(tmp_path / "app") == expected
    (wanted,) = layer["layer"]["components"]
    names = [component.attrib[key] for key in ("Cclass", "Cgroup", "Csub")]
    assert wanted["component"] == f"{root.findtext('vendor')}::{':'.join(names)}"
    assert layer["layer"]["packs"] == [{"pack": f"{root.findtext('vendor')}::{root.findtext('name')}", "path": "."}]


def test_a_library_is_for_its_processor_and_source_for_all(folders) -> None:
    library, source = (pack(folders[kind])[0] for kind in ("library", "source"))
    assert [e.attrib for e in library.iter("require")] == [{"Dcore": "Cortex-M4"}]
    assert not list(source.iter("require"))


def test_unknown_layouts_and_formats_without_one(graph, tmp_path) -> None:
    with pytest.raises(UsageError, match="unknown layout"):
        edgeq.compile(graph, target="cortex-m4", output=tmp_path / "no", layout="maven")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="belong to static libraries"):
        edgeq.compile(graph, target="host", output=tmp_path / "no.edgeq", layout="zephyr")
    assert not list(tmp_path.iterdir())
