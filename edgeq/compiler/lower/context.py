"""The lowering's state: which view holds which value, and how steps, buffers and constants come into being."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from edgeq.artifact.format import grain_of
from edgeq.compiler.kernels.base import DTYPE_BYTES, DType, Image, KernelSpec
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.kernels.movement.copy import CopySpec, FillSpec
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.place import Pads, Placement
from edgeq.compiler.program import Bound, Buffer, Program, Step, Touch, View, row_major, strides_in_order
from edgeq.compiler.schedule import Schedule
from edgeq.compiler.target import ACTIVATION_BIAS, Target
from edgeq.errors import CompileError
from edgeq.integer.graph import STORAGE

GRAPH_DTYPES: dict[ir.DataType, DType] = {
    ir.DataType.INT8: "s8",
    ir.DataType.UINT8: "u8",
    ir.DataType.INT16: "s16",
    ir.DataType.INT32: "s32",
    ir.DataType.INT64: "s64",
}
NHWC = (0, 2, 3, 1)


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value."""
    assert value.shape is not None, value.name
    return tuple(int(d) for d in value.shape)


def is_matrix(view: View) -> bool:
    """Whether a rank-4 value is a batch of matrices, rows contiguous in memory, and no channels-last image."""
    return view.shape[3] > 1 and view.strides[3] == 1 and view.strides[1] != 1


def graph_dtype(value: ir.Value) -> DType:
    """The value's dtype as the graph has it."""
    dtype = GRAPH_DTYPES.get(value.dtype) if value.dtype is not None else None
    if dtype is None:
        what = "the integer graph holds a value that is no integer"
        raise CompileError(what, where=str(value.name), why=f"its type is {value.dtype}")
    return dtype


def constant_of(value: ir.Value | None, node: ir.Node) -> np.ndarray:
    """The array of an initializer."""
    if value is None or value.const_value is None:
        raise CompileError(
            f"{node.op_type} needs a constant here",
            where=f"node {node.name!r}, input {value.name if value is not None else 'missing'}",
            hint="the integer graph was changed by hand, or comes from another version: quantize the model again",
        )
    return np.asarray(value.const_value.numpy())


@dataclass
class Lowering:
    """One run of the lowering, for one graph and one target.

    Attributes:
        storage: how the weights of dense layers are stored (kernels/dense/weights.py).
        lean: no kernel with scratch memory of its own where another one does (Winograd).
    """

    target: Target
    program: Program
    placement: Placement
    storage: Storage = "auto"
    schedule: Schedule | None = None
    lean: bool = False
    views: dict[ir.Value, View] = field(default_factory=dict)
    group_name: str = ""
    group_ops: tuple[str, ...] = ()
    _halo_filled: set[ir.Value] = field(default_factory=set)
    _constant_ids: dict[bytes, int] = field(default_factory=dict)
    _borders: dict[ir.Value, tuple[View, Pads, int]] = field(default_factory=dict)
    _copies: dict[tuple[ir.Value, str], View] = field(default_factory=dict)

    # --- how values are stored -------------------------------------------------------------------------------------

    def stored(self, value: ir.Value) -> tuple[DType, int]:
        """(dtype, bias) a value is stored with inside the graph."""
        dtype = graph_dtype(value)
        return ("u8", ACTIVATION_BIAS) if dtype == "s8" and self.target.stores_u8 else (dtype, 0)

    def readable(self, value: ir.Value, view: View) -> bool:
        """Whether kernels can read a graph input's value where the caller put it."""
        return self.stored(value) == (view.dtype, 0) and (len(view.shape) != 4 or view.image() is not None)

    def view(self, value: ir.Value | None, node: ir.Node | None = None) -> View:
        """The view that holds a value; constants are put into the weights on first use."""
        if value is None:
            raise CompileError("an input is missing", where=f"node {node.name!r}" if node else None)
        if value not in self.views:
            if value.const_value is None:
                raise CompileError("a value is read before it is made", where=str(value.name))
            self.views[value] = self._constant_view(value)
        return self.views[value]

    def _constant_view(self, value: ir.Value) -> View:
        assert value.const_value is not None
        array = value.const_value.numpy()
        dtype, bias = self.stored(value)
        stored = (array.astype(np.int16) + bias).astype(np.uint8) if bias else array
        bound = self.constant(np.ascontiguousarray(stored))
        shape = shape_of(value)
        return View(bound.buffer, dtype, shape, row_major(shape), bias=bias, region="weights")

    def storage_of(self, node: ir.Node) -> Storage:
        """How a dense layer's weights are stored: what its policy says, else the compiler's option."""
        noted = node.metadata_props.get(STORAGE)
        if noted in (None, "fast", "small"):
            return noted or self.storage
        raise CompileError(
            f"weights can't be stored {noted!r}",
            where=f"node {node.name!r}",
            why=f"its {STORAGE} is neither fast nor small",
            hint="the integer graph was changed by hand: quantize the model again",
        )

    # --- memory ----------------------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray) -> Bound:
        """A place in the weights for this array; equal arrays share one."""
        key = array.dtype.str.encode() + array.tobytes()
        if key not in self._constant_ids:
            self._constant_ids[key] = len(self.program.constants)
            self.program.constants.append(np.ascontiguousarray(array))
        return Bound("weights", self._constant_ids[key], 0)

    def buffer(self, name: str, size: int, role: str = "value") -> int:
        """A new arena buffer of `size` bytes."""
        self.program.buffers.append(Buffer(name, size, role))  # type: ignore[arg-type]
        return len(self.program.buffers) - 1

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DType, bias: int, order: tuple[int, ...]) -> View:
        """A dense new buffer whose memory runs through the axes in `order`."""
        strides = strides_in_order(shape, order)
        count = int(np.prod(shape, dtype=np.int64))
        return View(self.buffer(name, count * DTYPE_BYTES[dtype]), dtype, shape, strides, bias=bias)

    def output(self, value: ir.Value, like: View | None = None, order: tuple[int, ...] | None = None) -> View:
        """Where a kernel writes this value: its own buffer, its slice of a concatenation, or the graph's output.

        `like` gives the axis order of values that aren't images (results follow their first operand); `order` is for
        kernels that know better.
        """
        if value in self.views:
            return self.views[value]
        if value in self.placement.host:
            owner, axis, start = self.placement.host[value]
            view = self.output(owner).narrow(axis, start, shape_of(value)[axis])
        elif any(self.placement.halo.get(value, ())):
            view = self._allocate_halo(value)
        else:
            view = self._allocate_plain(value, like, order)
        if value in self.placement.joined:
            self.program.touches[view.buffer] = []
        self.views[value] = view
        return view

    @contextmanager
    def stored_like(self, value: ir.Value, source: View) -> Iterator[View]:
        """Where an op that only picks elements writes: stored like `source`, converted afterwards if need be."""
        out = self.output(value, source)
        if out.bias == source.bias:
            yield out
            return
        order = NHWC if len(out.shape) == 4 else tuple(range(len(out.shape)))
        same = self.allocate(f"{value.name} stored", out.shape, source.dtype, source.bias, order)
        yield same
        self.copy(same, out)

    def _allocate_plain(self, value: ir.Value, like: View | None, order: tuple[int, ...] | None) -> View:
        shape = shape_of(value)
        dtype, bias = self.stored(value)
        if order is None:
            plain = tuple(range(len(shape)))
            order = NHWC if len(shape) == 4 else plain
            if like is not None and len(like.shape) == len(shape) and (len(shape) != 4 or is_matrix(like)):
                order = tuple(sorted(plain, key=lambda a: (-like.strides[a] if like.shape[a] != 1 else 0, a)))
        view = self.allocate(value.name or "value", shape, dtype, bias, order)
        if value.is_graph_output() and view.dense and self._only_written(value):
            # Nobody but the caller reads it: write it as the caller wants it.
            view = replace(view, dtype=graph_dtype(value), bias=0)
            self.program.buffers[view.buffer].role = "output"
        return view

    def _only_written(self, value: ir.Value) -> bool:
        """Whether no kernel reads the value, nor what lives in a slice of it beside its way there."""
        hosted = (part for part in self.placement.host if self.placement.root(part) is value)
        return not value.uses() and all(len(list(part.uses())) == 1 for part in hosted)

    def _allocate_halo(self, value: ir.Value) -> View:
        n, c, h, w = shape_of(value)
        top, left, bottom, right = self.placement.halo[value]
        dtype, bias = self.stored(value)
        shape = (n, c, h + top + bottom, w + left + right)
        whole = self._allocate_padded(value.name or "value", shape, dtype, bias, min(left, right))
        border = (whole, (top, left, bottom, right), self.placement.border[value] + bias)
        if value in self.placement.joined:
            self._borders[value] = border  # so that rows take no memory before they are made
        else:
            self.fill_border(*border)
        return whole.narrow(2, top, h).narrow(3, left, w)

    def _allocate_padded(self, name: str, shape: tuple[int, ...], dtype: DType, bias: int, shared: int) -> View:
        """A buffer for an image with a border.

        Where RAM is short, `shared` columns of the right border are those on the left of the row below: both hold the
        same value.
        """
        if not (self.target.bare_metal and shared):
            return self.allocate(name, shape, dtype, bias, NHWC)
        n, c, h, w = shape
        pitch = (w - shared) * c
        strides = (h * pitch + shared * c, 1, pitch, c)
        return View(self.buffer(name, n * strides[0] * DTYPE_BYTES[dtype]), dtype, shape, strides, bias=bias)

    def settle_border(self, value: ir.Value) -> None:
        """Fills the border of an image whose rows were made apart."""
        if value in self._borders:
            self.fill_border(*self._borders.pop(value))

    def fill_border(self, whole: View, pads: Pads, stored_value: int) -> None:
        """A step that writes the border of an image."""
        image = whole.image()
        assert image is not None
        spec = FillSpec.border(image, *pads, value=stored_value, dtype=whole.dtype)
        self.step(spec, {"y": whole}, ops=("Fill",))

    # --- forms that kernels want -----------------------------------------------------------------------------------

    def image(self, value: ir.Value) -> tuple[View, Image]:
        """A rank-4 value as NHWC image, copied where its channels aren't contiguous."""
        view = self.view(value)
        image = view.image()
        if image is not None:
            return view, image
        view = self.copied(value, "nhwc", NHWC)
        image = view.image()
        assert image is not None
        return view, image

    def padded_image(self, value: ir.Value, pads: Pads, zero_point: int) -> tuple[View, Image]:
        """A rank-4 value with `pads` of its zero point around it: the halo where it has one, else a copy."""
        if not any(pads):
            return self.image(value)
        view, (top, left, bottom, right) = self.view(value), pads
        owner = self.placement.owner(value, pads)
        halo = self.placement.halo.get(owner, (0, 0, 0, 0)) if owner is not None else (0, 0, 0, 0)
        enough = all(have >= need for have, need in zip(halo, pads, strict=True))
        if not (enough and self.placement.border.get(owner) == zero_point and owner in self._with_halo()):
            return self._padded_copy(value, view, pads, zero_point)
        n, c, h, w = view.shape
        offset = view.offset - top * view.strides[2] - left * view.strides[3]
        grown = replace(view, shape=(n, c, h + top + bottom, w + left + right), offset=offset)
        whole = grown.image()
        assert whole is not None
        return grown, whole

    def _with_halo(self) -> set[ir.Value]:
        return {value for value in self.placement.halo if value in self.views}

    def _padded_copy(self, value: ir.Value, view: View, pads: Pads, zero_point: int) -> tuple[View, Image]:
        key = (value, f"padded {pads} {zero_point}")
        top, left, bottom, right = pads
        n, c, h, w = view.shape
        if key not in self._copies:
            shape = (n, c, h + top + bottom, w + left + right)
            whole = self._allocate_padded(f"{value.name} padded", shape, view.dtype, view.bias, min(left, right))
            self.fill_border(whole, pads, zero_point + view.bias)
            self.copy(view, whole.narrow(2, top, h).narrow(3, left, w))
            self._copies[key] = whole
        whole = self._copies[key]
        image = whole.image()
        assert image is not None
        return whole, image

    def derived(self, value: ir.Value, kind: str, make: Callable[[], View]) -> View:
        """Another form of a value; made once for each kind."""
        key = (value, kind)
        if key not in self._copies:
            self._copies[key] = make()
        return self._copies[key]

    def copied(self, value: ir.Value, kind: str, order: tuple[int, ...]) -> View:
        """A dense copy of a value with another axis order."""

        def make() -> View:
            view = self.view(value)
            copy = self.allocate(f"{value.name} {kind}", view.shape, view.dtype, view.bias, order)
            self.copy(view, copy)
            return copy

        return self.derived(value, kind, make)

    def row_major(self, value: ir.Value) -> View:
        """The value densely in the graph's axis order."""
        view = self.view(value)
        return view if view.dense else self.copied(value, "row-major", tuple(range(len(view.shape))))

    def copy(self, source: View, destination: View) -> None:
        """A step that copies element by element, converting between stored forms of int8 where they differ."""
        assert source.shape == destination.shape, (source.shape, destination.shape)
        xor = bool(source.bias) != bool(destination.bias)
        spec = CopySpec.of(source.shape, source.strides, destination.strides, source.dtype, flip_sign_bit=xor)
        self.step(spec, {"x": source, "y": destination}, ops=("Copy",))

    # --- steps -----------------------------------------------------------------------------------------------------

    def step(
        self,
        spec: KernelSpec,
        views: Mapping[str, View],
        constants: dict[str, np.ndarray] | None = None,
        macs: int = 0,
        ops: tuple[str, ...] | None = None,
    ) -> None:
        """Appends a kernel call; packs its constants for the target."""
        spec = self.target.specialise(spec, constants or {})
        packed = spec.pack(self.target, constants or {})
        arguments: list[Bound] = []
        reads: list[int] = []
        writes: list[int] = []
        grain = self._grain(spec, views, packed, macs)
        moved, touched = 0, spec.touched()
        # A thread that gets no tasks needs no scratch.
        slots = max(1, min(self.program.max_threads, spec.tasks() // grain))
        for operand in spec.operands():
            if operand.role == "weight" and operand.name in packed:
                arguments.append(self.constant(packed[operand.name]))
            elif operand.role == "scratch":
                size = spec.scratch_bytes(self.target) * slots
                index = self.buffer(f"{self.group_name} scratch", size, "scratch")
                arguments.append(Bound("arena", index, 0))
                writes.append(index)
            else:
                view = views[operand.name]
                arguments.append(Bound(view.region, view.buffer, view.byte_offset()))
                moved += touched.get(operand.name, view.elements) * DTYPE_BYTES[view.dtype]
                if view.region == "arena":
                    if view.buffer in self.program.touches:
                        self.program.touches[view.buffer].append(Touch(len(self.program.steps), view))
                    (writes if operand.role == "output" else reads).append(view.buffer)
        self.program.steps.append(
            Step(self.group_name, ops or self.group_ops, spec, arguments, macs, reads, writes, grain, moved)
        )

    def _grain(self, spec: KernelSpec, views: Mapping[str, View], packed: Mapping[str, np.ndarray], macs: int) -> int:
        """By the bytes of its constants and of every buffer it touches."""
        buffers = {view.buffer for view in views.values() if view.region == "arena"}
        moved = sum(self.program.buffers[index].size for index in buffers)
        return grain_of(spec.tasks(), macs, moved + sum(array.nbytes for array in packed.values()))

    def enter(self, group: Group) -> None:
        """Steps emitted from now on belong to this group."""
        self.group_name, self.group_ops = group.name, group.ops
