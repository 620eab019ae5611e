"""The order of the passes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes import PassManager, Sequential
from onnx_ir.passes import common as stock

from edgeq.errors import EdgeqError, ModelError
from edgeq.frontend.checks import check_known_ops, check_static_graph, check_static_shapes
from edgeq.frontend.passes.affine_to_depthwise import AffineToDepthwise
from edgeq.frontend.passes.batchnorm_to_affine import BatchNormToAffine
from edgeq.frontend.passes.binary_sums import BinarySums
from edgeq.frontend.passes.canonical_axes import CanonicalAxes
from edgeq.frontend.passes.canonical_matmul import CanonicalMatMul
from edgeq.frontend.passes.drop_noops import DropNoops
from edgeq.frontend.passes.expand_attention import ExpandAttention
from edgeq.frontend.passes.explicit_windows import ExplicitWindows
from edgeq.frontend.passes.fold_affine import FoldAffine
from edgeq.frontend.passes.fold_constants import FoldConstants
from edgeq.frontend.passes.freeze_shapes import FreezeShapes
from edgeq.frontend.passes.fuse_unary import FuseUnary
from edgeq.frontend.passes.lift_1d import Lift1d
from edgeq.frontend.passes.lower_qonnx import LowerQonnx, uses_qonnx
from edgeq.frontend.passes.merge_moves import MergeMoves
from edgeq.frontend.passes.name_nodes import NameNodes
from edgeq.frontend.passes.quantized_constants import QuantizedConstants
from edgeq.frontend.passes.raise_opset import RaiseOpset
from edgeq.frontend.passes.recognise_layer_norm import RecogniseLayerNorm
from edgeq.frontend.passes.recognise_masks import RecogniseMasks
from edgeq.frontend.passes.recognise_rms_norm import RecogniseRmsNorm
from edgeq.frontend.passes.rewrite import Rewrite
from edgeq.frontend.passes.settle_ceil_mode import SettleCeilMode
from edgeq.frontend.passes.sink_scales import SinkScales
from edgeq.frontend.passes.split_projections import SplitProjections
from edgeq.frontend.passes.take_off_qdq import TakeOffQdq
from edgeq.frontend.passes.widen_floats import WidenFloats

# Chains of folds end long before; a bound keeps a pair of passes that undo each other from looping.
_ROUNDS = 8


def simplify(
    model: ir.Model, *, batch: int | None, shapes: Mapping[str, Sequence[int]] | None, notes: list[str], source: str
) -> ir.Model:
    """Bring a checked model into the form of the float graph, in place.

    Args:
        model: as read from the file.
        batch: see `FreezeShapes`.
        shapes: see `FreezeShapes`.
        notes: gets a sentence for each decision a person should know.
        source: the file's name, for messages.

    Returns:
        The model.

    Raises:
        ModelError: the model can't be brought into that form; the message says where and why.
    """
    with _translated_errors(source):
        stock.InlinePass()(model)
        stock.RemoveUnusedFunctionsPass()(model)
        if uses_qonnx(model):
            _read_qonnx()(model)
        check_known_ops(model)
        for name in [name for name in model.graph.opset_imports if name]:
            del model.graph.opset_imports[name]
        for step in (_prepare(batch, shapes), _clean_up()):
            step(model)
        check_static_graph(model)
        check_static_shapes(model)
        for step in (_reshape_the_graph(notes), _finish()):
            step(model)
        check_static_shapes(model)
    return model


def _read_qonnx() -> Sequential:
    """Scales are often computed from constants: they are folded first. Shapes behind these ops are known afterwards."""
    return Sequential(
        NameNodes(),
        stock.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        stock.RemoveInitializersFromInputsPass(),
        FoldConstants(),
        stock.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        LowerQonnx(),
        stock.RemoveUnusedNodesPass(),
    )


def _prepare(batch: int | None, shapes: Mapping[str, Sequence[int]] | None) -> Sequential:
    return Sequential(
        stock.RemoveInitializersFromInputsPass(),
        NameNodes(),
        RaiseOpset(),
        stock.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        stock.TopologicalSortPass(),
        stock.NameFixPass(),
        WidenFloats(),
        FreezeShapes(batch, shapes),
        SettleCeilMode(),
    )


def _clean_up() -> PassManager:
    return PassManager(
        [
            FoldConstants(),
            stock.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            stock.RemoveUnusedNodesPass(),
            Rewrite(),
            DropNoops(),
            stock.RemoveUnusedNodesPass(),
        ],
        steps=_ROUNDS,
        early_stop=True,
    )


def _reshape_the_graph(notes: list[str]) -> Sequential:
    return Sequential(
        CanonicalAxes(),
        QuantizedConstants(),
        TakeOffQdq(notes),
        stock.RemoveUnusedNodesPass(),
        ExpandAttention(),
        RecogniseLayerNorm(),
        RecogniseRmsNorm(),
        # Attention and RMSNormalization are what would need a newer opset.
        RaiseOpset(),
        ExplicitWindows(),
        BinarySums(),
        BatchNormToAffine(),
        CanonicalMatMul(),
        Lift1d(),
        SplitProjections(),
        stock.RemoveUnusedNodesPass(),
        DropNoops(),
        MergeMoves(),
        SinkScales(),
        RecogniseMasks(),
        stock.RemoveUnusedNodesPass(),
        stock.TopologicalSortPass(),
        stock.DeduplicateInitializersPass(size_limit=1024),
        stock.CommonSubexpressionEliminationPass(),
        PassManager(
            [Rewrite(), DropNoops(), FoldAffine(), CanonicalMatMul(), stock.RemoveUnusedNodesPass()],
            steps=_ROUNDS,
            early_stop=True,
        ),
        AffineToDepthwise(),
        FuseUnary(),
    )


def _finish() -> Sequential:
    return Sequential(
        stock.RemoveUnusedNodesPass(),
        stock.DeduplicateInitializersPass(size_limit=1024),
        stock.OutputFixPass(),
        stock.TopologicalSortPass(),
        stock.NameFixPass(),
    )


@contextlib.contextmanager
def _translated_errors(source: str) -> Iterator[None]:
    """Passes wrap exceptions in PassError: dig our own ones out, and let nothing else through as a traceback."""
    try:
        yield
    except Exception as error:  # whatever a strange file makes a library raise
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, EdgeqError):
                raise type(cause)(cause.what, where=cause.where or source, why=cause.why, hint=cause.hint) from None
            last, cause = cause, cause.__cause__
        raise ModelError(
            "The model can't be simplified",
            where=source,
            why=f"{type(last).__name__}: {' '.join(str(last).split())[:500]}",
            hint="check the model with onnx.checker; if it is valid, please report it",
        ) from error
