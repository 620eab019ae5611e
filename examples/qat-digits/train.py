"""Quantization-aware training on handwritten digits: a CNN and a vision transformer with 4- and 2-bit weights.

    pip install -c constraints.txt -e '.[qat,train]'
    python examples/qat-digits/train.py                  # both networks, W4A4 and W2A4: minutes on one core
    python examples/qat-digits/train.py --net cnn --weights 2 --out build/qat

Trains in float, then with `edgeq.qat`, compiles, and runs the artifact on the held-out images: its outputs must equal
torch's bit for bit. Every product reads activations of 4 bits; the image, the logits and, in the transformer, the sums
of the residual stream have 8. Weights have 4 or 2 bits in every layer, the first and the last too. Seeds are fixed.
Data: scikit-learn's bundled digits (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import Cnn, Vit
from sklearn.datasets import load_digits
from torch import Tensor, nn

import edgeq
from edgeq import qat

SEED, EVAL_SAMPLES, BATCH = 7, 597, 50
NETS: dict[str, type[nn.Module]] = {"cnn": Cnn, "vit": Vit}
#: Epochs in float; epochs and learning rate with quantization; the share of batches that are shifted.
EPOCHS = {"cnn": 30, "vit": 80}
QUANTIZED = {("cnn", 4): (30, 2e-3), ("cnn", 2): (30, 2e-3), ("vit", 4): (80, 3e-3), ("vit", 2): (50, 2e-3)}
SHIFTED = {"cnn": 1.0, "vit": 0.5}


class Digits:
    """Batches of training images, a part of them shifted by up to a pixel; reading them again gives other ones.

    Args:
        shifted: share of the batches.

    Attributes:
        images, labels: of training. held_out, answers: never trained on.
    """

    def __init__(self, shifted: float) -> None:
        self.shifted = shifted
        found = load_digits()
        order = np.random.default_rng(SEED).permutation(len(found.target))
        images = torch.from_numpy(found.images[order, None].astype(np.float32) / 16)
        labels = torch.from_numpy(found.target[order].astype(np.int64))
        self.images, self.labels = images[EVAL_SAMPLES:], labels[EVAL_SAMPLES:]
        self.held_out, self.answers = images[:EVAL_SAMPLES], labels[:EVAL_SAMPLES]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for picked in torch.randperm(len(self.images)).split(BATCH):
            dy, dx = torch.randint(-1, 2, (2,)).tolist() if torch.rand(()) < self.shifted else (0, 0)
            yield (
                torch.roll(nn.functional.pad(self.images[picked], [1] * 4), (dy, dx), (2, 3))[..., 1:-1, 1:-1],
                (self.labels[picked]),
            )

    def accuracy(self, module: nn.Module) -> float:
        """Share of the held-out images that a module gets right."""
        with torch.no_grad():
            return float((module.eval()(self.held_out).argmax(1) == self.answers).float().mean())


def policy_of(net: str, weight_bits: int) -> dict[str, Any]:
    """Every product reads 4 bits; the transformer's residual stream keeps 8."""
    defaults = {"weight_bits": weight_bits, "activation_bits": 4}
    return {"defaults": defaults, "layers": {"node_add*": {"activation_bits": 8}} if net == "vit" else {}}


def differing(path: Path, module: qat.QatModule, digits: Digits) -> int:
    """Numbers in which artifact and module differ on the held-out images, of 5970."""
    model = edgeq.load(path)
    (name,) = (tensor.name for tensor in model.inputs)
    with torch.no_grad():
        wanted = module(digits.held_out).numpy()
    found = [next(iter(model.run({name: image.numpy()}).values())) for image in digits.held_out.split(1)]
    return int((np.concatenate(found).reshape(wanted.shape) != wanted).sum())


def train(name: str, widths: list[int], out: Path, digits: Digits) -> list[dict[str, Any]]:
    """Train one network in float and with each width of weights; a row of facts for each."""
    torch.manual_seed(SEED)
    net, rows = NETS[name](), []
    qat.fit(net, digits, EPOCHS[name], lr=3e-3, weight_decay=0.05, checkpoint=out / f"{name}-fp32.pt")
    reference = digits.accuracy(net)
    print(f"{name} fp32: {reference:.2%}", flush=True)
    for bits in widths:
        torch.manual_seed(SEED)
        module = qat.prepare(net, digits.images[:256], policy_of(name, bits))
        start = digits.accuracy(module)
        report = out / f"{name}-w{bits}a4"
        epochs, rate = QUANTIZED.get((name, bits), (50, 2e-3))
        qat.fit(module, digits, epochs, lr=rate, checkpoint=report.with_suffix(".pt"))
        accuracy = digits.accuracy(module)
        result = edgeq.compile(qat.convert(module), target="host", output=report.with_suffix(".edgeq"))
        wrong = differing(result.path, module, digits)
        rows.append(
            {
                "net": name,
                "weights": bits,
                "activations": 4,
                "fp32": reference,
                "before": start,
                "accuracy": accuracy,
                "differing": wrong,
            }
        )
        print(
            f"{name} W{bits}A4: {start:.2%} before training, {accuracy:.2%} after ({accuracy - reference:+.2%}); "
            f"artifact and torch differ in {wrong} of {10 * EVAL_SAMPLES} outputs",
            flush=True,
        )
    return rows


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=[*NETS, "both"], default="both")
    parser.add_argument("--weights", type=int, choices=range(1, 9), action="append", help="bits; default 4 and 2")
    parser.add_argument("--out", type=Path, default=Path("build/qat-digits"), help="folder of checkpoints, artifacts")
    given = parser.parse_args()
    # One thread: the same seed gives the same weights.
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in NETS if given.net == "both" else [given.net]:
        rows += train(name, given.weights or [4, 2], given.out, Digits(SHIFTED[name]))
    (given.out / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
