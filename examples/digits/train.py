"""Train a small CNN on scikit-learn's bundled handwritten digits and export what `make demo` needs.

    pip install -c constraints.txt -e '.[train]'
    python examples/digits/train.py

Writes beside this file: digits.onnx (float32, input "image" [N, 1, 8, 8], output "logits" [N, 10], about 100 KB),
calib.npz (x: 128 unlabelled training images) and eval.npz (x, y: 597 images that the training never saw). Pixels are
float32, 0..16 as the data set has them. The seed is fixed: with the pinned torch the same machine writes the same
weights again. Data: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, CC BY 4.0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from torch import nn

EVAL_SAMPLES = 597
CALIB_SAMPLES = 128
SEED = 20


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution with "same" padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """relu(x + f(x)), f = conv 3x3, batch norm, ReLU, conv 3x3, batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels, 3),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


class DigitsNet(nn.Module):
    """What edge networks are made of, in 23 k weights: 3x3, residual, depthwise separable, pooling, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(1, 24, 3),
            Residual(24),
            conv(24, 24, 3, stride=2, groups=24),
            conv(24, 64, 1),
            conv(64, 64, 3, groups=64),
            conv(64, 128, 1),
        )
        self.head = nn.Linear(128, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).mean((2, 3)))


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train [n, 1, 8, 8] float32 in 0..16, y_train [n] int64, x_eval, y_eval; shuffled once with a fixed seed."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    x = digits.images[order, None].astype(np.float32)
    y = digits.target[order].astype(np.int64)
    return x[:-EVAL_SAMPLES], y[:-EVAL_SAMPLES], x[-EVAL_SAMPLES:], y[-EVAL_SAMPLES:]


def shifted(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by up to one pixel in each direction (zeros come in): the data set is small."""
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(x), 2), generator=generator)
    return torch.stack([p[:, r : r + 8, c : c + 8] for p, (r, c) in zip(padded, offsets.tolist(), strict=True)])


def train(epochs: int, x: np.ndarray, y: np.ndarray) -> DigitsNet:
    """AdamW with one cosine cycle, batches of 64."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    model = DigitsNet()
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(x), generator=generator).split(64):
            loss = nn.functional.cross_entropy(model(shifted(images[batch], generator)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        schedule.step()
        print(f"epoch {epoch + 1:3d}/{epochs}  loss {total / len(x):.4f}", flush=True)
    return model.eval()


def export(model: DigitsNet, path: Path) -> None:
    """ONNX with a dynamic batch and the weights inside.

    The exporter's notes go (they hold stack traces with local paths); layers are named by their module.
    """
    torch.onnx.export(
        model,
        (torch.zeros(2, 1, 8, 8),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    proto = onnx.load(path)
    graph = proto.graph
    for owner in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del owner.metadata_props[:]
    for node in graph.node:
        weight = next((name for name in node.input if name.endswith(".weight")), "")
        node.name = weight.removesuffix(".weight") or node.name
    onnx.save(proto, path)


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Train the digits CNN, export ONNX and data.")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=here, help="folder to write to (default: beside this script)")
    args = parser.parse_args()
    x_train, y_train, x_eval, y_eval = load_split()
    model = train(args.epochs, x_train, y_train)
    with torch.no_grad():
        top1 = float((model(torch.from_numpy(x_eval)).argmax(1).numpy() == y_eval).mean())
    print(f"top-1 on {len(y_eval)} images that were not trained on: {top1:.4f}")
    args.out.mkdir(parents=True, exist_ok=True)
    export(model, args.out / "digits.onnx")
    np.savez_compressed(args.out / "calib.npz", x=x_train[:CALIB_SAMPLES])
    np.savez_compressed(args.out / "eval.npz", x=x_eval, y=y_eval)


if __name__ == "__main__":
    main()
