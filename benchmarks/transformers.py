"""Speed of transformers against ONNX Runtime, fp32 and dynamically quantized to int8, interleaved, one thread.

    taskset -c 1 python benchmarks/transformers.py --out transformers.json

The networks have the published architectures (DeiT-Tiny at 224 pixels, MiniLM-L6 at 128 tokens) and random weights:
times don't depend on them. Needs torch (`pip install -e '.[train]' -c constraints.txt`). Above 1 means edgeq is faster;
float in and float out on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, say
from torch import Tensor, nn

import edgeq
from edgeq.evaluate.speed import race


class Attention(nn.Module):
    """Self-attention of `heads` heads; `mask` [batch, tokens] is 0 where a token is padding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, tokens, width = x.shape

        def split(linear: nn.Module) -> Tensor:
            return linear(x).reshape(batch, tokens, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = split(self.query), split(self.key), split(self.value)
        logits = q @ k.transpose(2, 3) / (width // self.heads) ** 0.5
        if mask is not None:
            logits = logits + (1.0 - mask[:, None, None, :]) * -10000.0
        return self.out((torch.softmax(logits, -1) @ v).transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """One layer: normalised in front of its parts (vision) or behind them (language)."""

    def __init__(self, width: int, heads: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.attention = Attention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.first:
            x = x + self.attention(self.norm1(x), mask)
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.mlp(x))


class Vision(nn.Module):
    """DeiT-Tiny: 12 layers of width 192 and 3 heads over 196 patches and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 192) * 0.02)
        self.position = nn.Parameter(torch.randn(1, 197, 192) * 0.02)
        self.blocks = nn.ModuleList(Block(192, 3, first=True) for _ in range(12))
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Language(nn.Module):
    """MiniLM-L6: 6 layers of width 384 and 12 heads, mean over the tokens that aren't padding."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, 384)
        self.position = nn.Parameter(torch.randn(1, tokens, 384) * 0.02)
        self.norm = nn.LayerNorm(384)
        self.blocks = nn.ModuleList(Block(384, 12, first=False) for _ in range(6))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.to(torch.float32)
        x = self.norm(self.words(input_ids) + self.position)
        for block in self.blocks:
            x = block(x, mask)
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def networks() -> dict[str, tuple[nn.Module, dict[str, np.ndarray]]]:
    """Name -> (module, samples of its inputs without the batch axis)."""
    rng = np.random.default_rng(0)
    images = {"image": rng.standard_normal((8, 3, 224, 224), np.float32)}
    tokens = {
        "input_ids": rng.integers(0, 30522, (8, 128)),
        "attention_mask": np.ones((8, 128), np.int64),
    }
    return {"deit_tiny_224": (Vision(), images), "minilm_l6_128": (Language(128), tokens)}


def export(module: nn.Module, samples: dict[str, np.ndarray], path: Path) -> None:
    """Writes the module as ONNX, batch 1, weights inside."""
    example = tuple(torch.from_numpy(x[:1]) for x in samples.values())
    torch.onnx.export(
        module.eval(), example, path, input_names=list(samples), output_names=["y"], dynamo=True, external_data=False
    )


def dynamic_int8(source: Path, to: Path) -> None:
    """ONNX Runtime's own dynamic quantization, weights by channel."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The exporter's own shapes of transposed weights contradict the quantizer's.
    plain = onnx.load(source)
    del plain.graph.value_info[:]
    prepared = to.with_suffix(".prepared.onnx")
    onnx.save(plain, prepared)
    quantize_dynamic(str(prepared), str(to), weight_type=QuantType.QInt8, per_channel=True)


def measure(name: str, module: nn.Module, samples: dict[str, np.ndarray], args: Any, folder: Path) -> dict[str, Any]:
    """One network on one target against both peers."""
    model, int8, data = (folder / f"{name}{end}" for end in (".onnx", ".int8.onnx", ".npz"))
    export(module, samples, model)
    dynamic_int8(model, int8)
    np.savez(data, **samples)
    artifact = folder / f"{name}.edgeq"
    result = edgeq.compile(model, target=args.target, calib=data, output=artifact)
    races = {
        peer: race(artifact, path, data=data, repeats=args.repeats, threads=args.threads)
        for peer, path in (("fp32", model), ("dynamic_int8", int8))
    }
    for peer, times in races.items():
        ours, theirs = times["artifact"] * 1e3, times["onnxruntime"] * 1e3
        say(f"{name:<16} {result.target:<10} {ours:.2f} ms, {peer:<12} {theirs:.2f} ms: {times['ratio']:.2f}x")
    return {"model": name, "target": result.target, "threads": args.threads, "compile": result.seconds, **races}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="host")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--models", nargs="+", default=["deit_tiny_224", "minilm_l6_128"], metavar="NAME")
    parser.add_argument("--out", type=Path, help="JSON file to write (default: only print)")
    args = parser.parse_args()
    torch.manual_seed(0)
    known = networks()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, *known[name], args, Path(folder)) for name in args.models]
    finish("transformers", rows, args.out)


if __name__ == "__main__":
    main()
