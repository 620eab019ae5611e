"""TVM from the PrimFunc down: lowering to LLVM with plain C signatures. The only module that drives TVM's passes.

TVM's own pipeline ends in packed functions that need its runtime; this list leaves those passes out, turns buffer
parameters into raw pointers, and so needs nothing on the device. Scratch memory is an operand: an allocation that would
silently become stack is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.tirx.buffer import buffer_data_pointer_type, is_buffer_var

# Small accumulators must stay registers, not become workspace calls.
PASS_CONFIG = {"tirx.disable_storage_rewrite": True}


@tvm.transform.module_pass(opt_level=0, name="edgeq.MakeCAPI")
class MakeCAPI:
    """Replaces every buffer parameter by a raw data pointer."""

    def transform_module(self, mod: Any, ctx: Any) -> Any:
        functions = {}
        for symbol, function in mod.functions.items():
            parameters, declarations = [], []
            for parameter in function.params:
                if is_buffer_var(parameter):
                    pointer = tirx.Var(parameter.name + "_p", buffer_data_pointer_type(parameter))
                    parameters.append(pointer)
                    declarations.append(tirx.DeclBuffer(parameter, data=pointer))
                else:
                    parameters.append(parameter)
            body = tirx.SeqStmt([*declarations, function.body]) if declarations else function.body
            functions[symbol] = tirx.PrimFunc(parameters, body, ret_type=function.ret_type, attrs=function.attrs)
        return tvm.IRModule(functions, attrs=mod.attrs)


def lower(mod: Any, target: Any) -> Any:
    """Lowers a module of PrimFuncs to what the LLVM code generator takes.

    TVM's own list has CompactBufferAllocation, RenormalizeSplitPattern and RemoveNoOp too: kernels come without blocks
    and without splits, so that these cost a sixth of the time and change no byte of any object.
    """
    t, s = tirx.transform, s_tir.transform
    passes = [
        t.BindTarget(target.with_host(target)),
        s.CanonicalizeLoop(),
        s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(),
        s.LowerMatchBuffer(),
        s.StmtSimplify(),
        s.LowerOpaqueBlock(),
        t.FlattenBuffer(),
        t.NarrowDataType(32),
        s.LoopPartition(),
        t.VectorizeLoop(True),
        t.StorageRewrite(),
        t.UnrollLoop(),
        t.StmtSimplify(),
        s.RewriteUnsafeSelect(),
        t.CommonSubexprElim(),
        MakeCAPI(),
        t.LowerIntrin(),
    ]
    with target:
        return tvm.ir.transform.Sequential(passes)(mod)


def build_module(function: Any, tvm_target: dict[str, Any]) -> Any:
    """The LLVM module of one PrimFunc (attribute `global_symbol` = its C name)."""
    target = tvm.target.Target(tvm_target)
    module = tvm.IRModule({function.attrs["global_symbol"]: function})
    with tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
        return tvm.get_global_func("target.build.llvm")(lower(module, target), target)


def write_object(function: Any, tvm_target: dict[str, Any], path: Path) -> None:
    """Writes the object file of one PrimFunc.

    Args:
        function: PrimFunc with attribute `global_symbol`.
        tvm_target: dictionary for tvm.target.Target.
        path: destination, ends in `.o`.
    """
    build_module(function, tvm_target).write_to_file(str(path), "o")
