"""Kernels as C99: TVM's lowering, vectors taken apart, TVM's C generator, and its text made fit for any compiler.

TVM's text wants headers of its runtime and exports every function. Here a kernel becomes one `static` function over
fixed-width integers, which needs <stdint.h> and the functions of `prelude` that it calls.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from edgeq.compiler.codegen import PASS_CONFIG, lower
from edgeq.compiler.scalarise import Scalariser
from edgeq.compiler.unused import without_unused
from edgeq.errors import CompileError

_SIGNATURE = re.compile(r"^TVM_DLL void (\w+)\((.*)\) \{$", re.MULTILINE)
# Memory of the arena has more than one type in its life: only such pointers may look at it (see artifact/source.py).
_WIDE_POINTER = re.compile(r"\b(u?int(?:16|32|64)_t) ?\*")


def write_source(function: Any, path: Path) -> None:
    """Writes one kernel as a C function.

    Args:
        function: PrimFunc with attribute `global_symbol`.
        path: destination, ends in `.c`.

    Raises:
        CompileError: the kernel has something that plain C hasn't; names it.
    """
    path.write_text(kernel_source(function), encoding="ascii")


def kernel_source(function: Any) -> str:
    """`static void symbol(int32_t t0, int32_t t1, pointers …) { … }`."""
    symbol = str(function.attrs["global_symbol"])
    target = tvm.target.Target({"kind": "c"})
    with tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
        lowered = lower(tvm.IRModule({symbol: function}), target)
        functions = {name: _scalar(one) for name, one in lowered.functions.items()}
        module = tvm.IRModule(functions, attrs=lowered.attrs)
        text = str(tvm.get_global_func("target.build.c")(module, target).inspect_source())
    return _plain(text, symbol)


def _scalar(function: Any) -> Any:
    body = without_unused(Scalariser().body(function.body))
    body = tirx.Evaluate(0) if body is None else body
    return tirx.PrimFunc(function.params, body, ret_type=function.ret_type, attrs=function.attrs)


def _plain(text: str, symbol: str) -> str:
    """The function out of TVM's text."""
    found = [match for match in _SIGNATURE.finditer(text) if match.group(1) == symbol]
    if len(found) != 1:
        raise CompileError(
            "TVM's C generator wrote something unexpected",
            where=f"kernel {symbol}",
            why=f"{len(found)} definitions of it",
            hint="docs/dependencies.md says which version of TVM is known to work",
        )
    parameters, body = found[0].group(2), text[found[0].end() :].strip()
    names = [part.rpartition(" ")[2].lstrip("*") for part in parameters.split(",")]
    unused = [name for name in names if not re.search(rf"\b{name}\b", body)]
    ignored = "".join(f"  (void){name};\n" for name in unused)
    whole = f"static void {symbol}({parameters}) {{\n{ignored}  {body}\n"
    return _WIDE_POINTER.sub(r"edgeq_\1 *", whole)
