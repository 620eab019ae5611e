"""Every op of the list loads and computes the same; so do random convolutional networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.frontend.checks import SUPPORTED_OPS
from tests.frontend.models import check, model, ops, weights

X = "g (float[1,4,6,6] x)"
I64 = np.int64
CONSTANTS = {
    "w": weights(5, 4, 3, 3), "wt": weights(4, 5, 3, 3), "wd": weights(4, 1, 3, 3), "sc": np.float32(1.5),
    "ch": weights(4, 1, 1), "full": weights(1, 4, 6, 6), "s1": np.array([1, 4, 36], I64), "idx": np.array([2, 0], I64),
    "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1], I64), "big": np.array([2, 4, 6, 6], I64), "ax": np.array([2], I64),
    "ax23": np.array([2, 3], I64), "two": np.array([2, 2], I64), "b": np.array([1], I64), "e": np.array([5], I64),
    "up": np.array([1, 1, 2, 2], np.float32), "size": np.array([1, 4, 9, 5], I64),
}  # fmt: skip

BODIES = {
    "Abs": "y = Abs(x)",
    "Add": "a = Exp(x)  b_ = Conv<pads=[1,1,1,1], group=4>(x, wd)  y = Add(a, b_)",
    "ArgMax": "y = ArgMax<axis=1, keepdims=0>(x)",
    "AveragePool": "y = AveragePool<kernel_shape=[2,3], strides=[2,1], pads=[0,1,0,1], count_include_pad=1>(x)",
    "BatchNormalization": "y = BatchNormalization(x, one, zero, zero, one)",
    "Cast": "i = ArgMax<axis=1>(x)  y = Cast<to=1>(i)",
    "Clip": "y = Clip(x, , sc)",
    "Concat": "r = Relu(x)  y = Concat<axis=1>(x, r)",
    "Constant": "c = Constant<value_float=2.0>()  y = Mul(x, c)",
    "Conv": "y = Conv<dilations=[2,2], pads=[2,1,1,2], strides=[1,2]>(x, w)",
    "ConvTranspose": "y = ConvTranspose<strides=[2,2], output_padding=[1,0], dilations=[1,2]>(x, wt)",
    "DepthToSpace": 'y = DepthToSpace<blocksize=2, mode="CRD">(x)',
    "DequantizeLinear": "",
    "Div": "a = Exp(x)  r = Sigmoid(a)  y = Div(x, full)",
    "Dropout": "y = Dropout(x)",
    "Elu": "y = Elu<alpha=0.7>(x)",
    "Erf": "y = Erf(x)",
    "Exp": "y = Exp(x)",
    "Expand": "y = Expand(x, big)",
    "Flatten": "y = Flatten<axis=2>(x)",
    "Gather": "y = Gather<axis=1>(x, idx)",
    "Gemm": "r = Reshape(x, flat)  y = Gemm<transA=1>(r, r)",
    "GlobalAveragePool": "y = GlobalAveragePool(x)",
    "GlobalMaxPool": "y = GlobalMaxPool(x)",
    "HardSigmoid": "y = HardSigmoid(x)",
    "HardSwish": "y = HardSwish(x)",
    "Identity": "r = Relu(x)  y = Identity(r)",
    "LeakyRelu": "y = LeakyRelu(x)",
    "MatMul": "t = Transpose<perm=[0,1,3,2]>(x)  y = MatMul(x, t)",
    "Max": "r = Exp(x)  y = Max(x, full, r)",
    "MaxPool": "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,0], dilations=[1,2]>(x)",
    "Min": "y = Min(x, sc)",
    "Mul": "g = GlobalAveragePool(x)  s = Sigmoid(g)  y = Mul(x, s)",
    "Neg": "y = Neg(x)",
    "Pad": 'y = Pad<mode="reflect">(x, pads)',
    "PRelu": "y = PRelu(x, ch)",
    "QuantizeLinear": "",
    "ReduceMax": "y = ReduceMax<axes=[2,3]>(x)",
    "ReduceMean": "y = ReduceMean<axes=[-1,-2], keepdims=0>(x)",
    "ReduceSum": "y = ReduceSum(x, ax23)",
    "Relu": "y = Relu(x)",
    "Reshape": "y = Reshape(x, s1)",
    "Resize": 'a = Resize<mode="nearest">(x, , up)  y = Resize<mode="linear">(a, , , size)',
    "Sigmoid": "y = Sigmoid(x)",
    "Slice": "y = Slice(x, b, e, ax)",
    "Softmax": "y = Softmax<axis=1>(x)",
    "Softplus": "y = Softplus(x)",
    "SpaceToDepth": "y = SpaceToDepth<blocksize=3>(x)",
    "Split": "p, q = Split<axis=1>(x, two)  y = Sub(p, q)",
    "Sqrt": "a = Abs(x)  y = Sqrt(a)",
    "Squeeze": "g = GlobalMaxPool(x)  y = Squeeze(g, ax23)",
    "Sub": "y = Sub(full, x)",
    "Tanh": "y = Tanh(x)",
    "Transpose": "y = Transpose<perm=[0,2,3,1]>(x)",
    "Unsqueeze": "y = Unsqueeze(x, ax)",
}


# Ranks of y where it isn't 4.
RANKS = {"ArgMax": 3, "Flatten": 2, "Gemm": 2, "ReduceMean": 2, "Reshape": 3, "Squeeze": 2, "Unsqueeze": 5}


def test_the_list_is_whole():
    listed = SUPPORTED_OPS.split(" and ")[0].split()
    assert sorted(listed) == sorted(BODIES)


@pytest.mark.parametrize("op", [op for op, body in BODIES.items() if body])
@pytest.mark.parametrize("opset", [13, 17])
def test_op(tmp_path, op, opset):
    body = BODIES[op]
    if op == "HardSwish" and opset < 14:
        opset = 14
    constants = {**CONSTANTS, "flat": np.array([4, 36], I64), "one": np.ones(4, np.float32), "zero": weights(4)}
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    used = {name: array for name, array in constants.items() if name in words}
    dtype = "int64" if op == "ArgMax" else "float"
    rank = RANKS.get(op, 4)
    dims = ",".join(f"d{k}" for k in range(rank))
    check(model(f"{X} => ({dtype}[{dims}] y) {{ {body} }}", opset=opset, **used), tmp_path)


LAYERS = st.lists(
    st.sampled_from(["conv", "depthwise", "point", "bn", "relu", "relu6", "silu", "hswish", "prelu", "pool", "add",
                     "concat", "scale", "shift", "se", "pad", "dropout", "nhwc", "leaky", "up"]),
    min_size=1, max_size=12,
)  # fmt: skip


class Network:
    """Writes a random image network, layer by layer, in ONNX's text form."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, np.ndarray] = {
            "three": np.float32(3), "six": np.float32(6), "nil": np.float32(0), "up": CONSTANTS["up"],
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], I64),
        }  # fmt: skip
        self.last, self.channels, self.size = "x", 3, 8
        self.same: list[tuple[str, int, int]] = [("x", 3, 8)]

    def put(self, expression: str) -> str:
        self.last = f"v{len(self.lines)}"
        self.lines.append(f"{self.last} = {expression}")
        return self.last

    def constant(self, *shape: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = weights(*shape, seed=len(self.constants))
        return name

    def layer(self, kind: str) -> None:
        x, c = self.last, self.channels
        if kind in ("conv", "point"):
            k = 3 if kind == "conv" else 1
            pads = ",".join([str(k // 2)] * 4)
            self.put(f"Conv<pads=[{pads}]>({x}, {self.constant(4, c, k, k)}, {self.constant(4)})")
            self.channels = 4
        elif kind == "depthwise":
            self.put(f"Conv<pads=[1,1,1,1], group={c}>({x}, {self.constant(c, 1, 3, 3)})")
        elif kind == "bn":
            variance = self.constant(c)
            self.constants[variance] = np.abs(self.constants[variance]) + 0.5
            operands = [self.constant(c) for _ in range(3)]
            self.put(f"BatchNormalization({x}, {', '.join(operands)}, {variance})")
        elif kind in ("add", "concat"):
            name, channels, _ = next(item for item in reversed(self.same) if kind == "concat" or item[1] == c)
            self.put(f"Add({x}, {name})" if kind == "add" else f"Concat<axis=1>({x}, {name})")
            self.channels = c if kind == "add" else c + channels
        elif kind == "se":
            pooled = self.put(f"GlobalAveragePool({x})")
            gate = self.put(f"Conv({pooled}, {self.constant(c, c, 1, 1)})")
            self.put(f"Mul({x}, {self.put(f'HardSigmoid({gate})')})")
        elif kind == "hswish":
            clipped = self.put(f"Clip({self.put(f'Add({x}, three)')}, nil, six)")
            self.put(f"Div({self.put(f'Mul({x}, {clipped})')}, six)")
        elif kind == "silu":
            self.put(f"Mul({x}, {self.put(f'Sigmoid({x})')})")
        elif kind == "nhwc":
            turned = self.put(f"Transpose<perm=[0,2,3,1]>({x})")
            self.put(f"Transpose<perm=[0,3,1,2]>({self.put(f'Relu({turned})')})")
        else:
            self.simple(kind, x, c)
        if kind in ("pool", "up", "pad"):
            self.same = []
        self.same.append((self.last, self.channels, self.size))

    def simple(self, kind: str, x: str, c: int) -> None:
        expressions = {
            "relu": "Relu({x})", "relu6": "Clip({x}, nil, six)", "leaky": "LeakyRelu({x})", "dropout": "Dropout({x})",
            "pool": "MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>({x})", "pad": "Pad({x}, pads)",
            "up": 'Resize<mode="nearest">({x}, , up)', "prelu": "PRelu({x}, {k})", "scale": "Mul({x}, {k})",
            "shift": "Add({k}, {x})",
        }  # fmt: skip
        self.put(expressions[kind].format(x=x, k=self.constant(c, 1, 1) if "{k}" in expressions[kind] else ""))


@settings(max_examples=60, deadline=None)
@given(LAYERS, st.sampled_from([13, 17, 21]))
def test_random_networks(tmp_path_factory, layers, opset):
    network = Network()
    for kind in layers:
        network.layer(kind)
    text = " ".join(network.lines)
    used = {name: array for name, array in network.constants.items() if f" {name}" in text or f"({name}," in text}
    proto = model(f"g (float[1,3,8,8] x) => (float[n,c,h,w] {network.last}) {{ {text} }}", opset=opset, **used)
    graph = check(proto, tmp_path_factory.mktemp("net"), tolerance=1e-3)
    assert not {"BatchNormalization", "Dropout", "Identity"} & set(ops(graph)) or len(graph.nodes) == 1
