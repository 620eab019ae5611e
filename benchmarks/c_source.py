"""C source on a Cortex-M4: instructions and code of `--format c` through GCC, beside the static library's.

    python benchmarks/c_source.py --out c_source.json

The same on every machine with the same GCC. `ratio` is the source's instructions divided by the library's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Zoo, arguments, finish, say

import edgeq
from edgeq.artifact.elf32 import sections
from edgeq.artifact.source import sources, write_source
from edgeq.artifact.tools import run_tool
from edgeq.compiler import CompileOptions, compile_graph, load_target
from edgeq.evaluate import firmware
from edgeq.integer.graph import IntegerGraph
from edgeq.runtime.sources import runtime_root

MODELS = (
    "mlperf_tiny_resnet8_cifar10",
    "mlperf_tiny_dscnn_kws",
    "mlperf_tiny_mobilenetv1_vww",
    "mlperf_tiny_autoencoder_toycar",
)
MAIN = """#include "mark.h"
#include "net.h"
#include "semihost.h"
NET_ARENA(arena);
void edgeq_exit(int code) __attribute__((noreturn));
void edgeq_exit(int code) { edgeq_semihost_exit(code); }
int main(void) {
  edgeq_print_number((int32_t)net_check(arena));
  EDGEQ_MARK_BEGIN();
  net_run(arena);
  EDGEQ_MARK_END();
  return 0;
}
"""
EXECUTABLE = 4


def measure(graph: Path, name: str, optimise: str) -> dict[str, Any]:
    """One network both ways on the emulated board."""
    board = load_target("cortex-m4").spec.board
    assert board is not None
    loaded = IntegerGraph.load(graph)
    library = firmware.run_firmware(compile_graph(loaded, load_target("cortex-m4"), CompileOptions(1)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sizes = write_source(compile_graph(loaded, load_target("c99"), CompileOptions(1)), folder, "net")
        (folder / "main.c").write_text(MAIN, encoding="utf-8")
        code, different, count = _built_and_run(folder, board, optimise)
    return {
        "model": name,
        "gcc": optimise,
        "instructions": count,
        "library_instructions": library.total,
        "ratio": round(count / library.total, 2),
        "code": code,
        "library_code": library.sizes.code,
        "arena": sizes.arena,
        "different": different,
    }


def _built_and_run(folder: Path, board: Any, optimise: str) -> tuple[int, int, int]:
    """Bytes of code of the model's own file, differing output bytes, instructions of a run."""
    root = runtime_root()
    flags = [f"-mcpu={board.cpu}", "-mthumb", *board.flags, optimise, "-std=gnu99"]
    flags += [f"-I{folder}", f"-I{root / 'firmware'}", f"-I{root / 'qemu'}"]
    alone = folder / "net.o"
    run_tool([firmware.COMPILER, *flags, "-c", folder / "net.c", "-o", alone], "compiling the source")
    code = sum(section.size for section in sections(alone.read_bytes()) if section.flags & EXECUTABLE)
    places = {"FLASH_ORIGIN": board.flash, "FLASH_LENGTH": 0x200000, "RAM_ORIGIN": board.ram, "RAM_LENGTH": 0x80000}
    link = ["-nostartfiles", "--specs=nosys.specs", "-Wl,--gc-sections", "-T", root / "firmware" / "cortex-m.ld"]
    link += [f"-Wl,--defsym={key}={value:#x}" for key, value in places.items()]
    files = [*sources(folder, "net"), folder / "main.c", root / "firmware" / "startup.c"]
    run_tool([firmware.COMPILER, *flags, *files, *link, "-o", folder / "firmware.elf"], "linking the firmware")
    printed, counts = firmware.run_counted(folder, folder / "firmware.elf", board)
    return code, int(printed.strip()), int(counts[0])


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=MODELS)
    parser.add_argument("--gcc", nargs="+", default=["O2"], help="levels of optimisation")
    parser.add_argument("--samples", type=int, default=32, help="calibration samples")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    rows = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as place:
            graph = Path(place) / f"{name}.int.onnx"
            edgeq.quantize(zoo.model(name), zoo.calibration(name, args.samples, Path(place)), output=graph)
            for optimise in args.gcc:
                row = measure(graph, name, f"-{optimise}")
                rows.append(row)
                say(
                    f"{name:<32} -{optimise:<3} {row['instructions']:>12,} {row['ratio']:>6} x library  "
                    f"code {row['code']:>6} (library {row['library_code']:>6})  differ {row['different']}"
                )
    finish("c_source", rows, args.out)


if __name__ == "__main__":
    main()
