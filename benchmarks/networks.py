"""Networks of published architecture with seeded random weights, drawn as their authors initialise them. Needs torch
only.

Peers' times don't depend on weights. edgeq's do on AVX2: how long products stay in 16 bits is decided by the weights'
sums. Normal ones, as the papers draw them, are nearer to trained ones than torch's own uniform default.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

Samples = dict[str, np.ndarray]


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


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size, and batch normalization."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Residual(nn.Module):
    """A ResNet block: two 3×3 convolutions, or 1×1, 3×3 and 1×1 with a quarter of the channels between (v1.5)."""

    def __init__(self, inputs: int, outputs: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        middle = outputs // 4 if bottleneck else outputs
        relu = nn.ReLU()
        if bottleneck:
            ahead = [
                *_unit(inputs, middle, 1),
                relu,
                *_unit(middle, middle, 3, stride),
                relu,
                *_unit(middle, outputs, 1),
            ]
        else:
            ahead = [*_unit(inputs, middle, 3, stride), relu, *_unit(middle, outputs, 3)]
        self.body, self.relu = nn.Sequential(*ahead), relu
        plain = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if plain else nn.Sequential(*_unit(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


def resnet(depths: tuple[int, ...], bottleneck: bool) -> nn.Module:
    """He et al. 2016, 224 pixels, 1000 classes."""
    layers: list[nn.Module] = [*_unit(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, depth in enumerate(depths):
        outputs = (256 if bottleneck else 64) << stage
        for index in range(depth):
            layers.append(Residual(inputs, outputs, 2 if stage and not index else 1, bottleneck))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


class Inverted(nn.Module):
    """MobileNetV2's block: 1×1 up by `expansion`, depthwise 3×3, 1×1 down, added where sizes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        up = [*_unit(inputs, middle, 1), nn.ReLU6()] if expansion > 1 else []
        self.body = nn.Sequential(
            *up, *_unit(middle, middle, 3, stride, middle), nn.ReLU6(), *_unit(middle, outputs, 1)
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2() -> nn.Module:
    """Sandler et al. 2018, width 1, 224 pixels, 1000 classes."""
    layers: list[nn.Module] = [*_unit(3, 32, 3, 2), nn.ReLU6()]
    inputs = 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outputs, depth, stride in table:
        for index in range(depth):
            layers.append(Inverted(inputs, outputs, 1 if index else stride, expansion))
            inputs = outputs
    head = [*_unit(inputs, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers, *head)


BUILDERS = {
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "mobilenet_v2": mobilenet_v2,
    "deit_tiny_224": Vision,
    "minilm_l6_128": lambda: Language(128),
}


def samples(name: str, count: int = 8) -> Samples:
    """Inputs of a network, seeded, [count, …] each."""
    rng = np.random.default_rng(0)
    if name == "minilm_l6_128":
        return {
            "input_ids": rng.integers(0, 30522, (count, 128)),
            "attention_mask": np.ones((count, 128), np.int64),
        }
    return {"image": rng.standard_normal((count, 3, 224, 224), np.float32)}


def initialise(module: nn.Module) -> None:
    """Convolutions of CNNs as He et al. 2015 (by fan-out); transformers with a deviation of .02 (Devlin et al. 2018,
    Touvron et al. 2020), their biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and not isinstance(module, Vision):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.Linear | nn.Embedding | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear | nn.Conv2d) and part.bias is not None:
            nn.init.zeros_(part.bias)


def build(name: str) -> nn.Module:
    """The network, the same weights every time; batch normalization has seen its samples."""
    torch.manual_seed(0)
    module = BUILDERS[name]()
    initialise(module)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = None  # the mean over what it sees
        with torch.no_grad():
            module.train()(torch.from_numpy(samples(name)["image"]))
    return module.eval()


def export(module: nn.Module, given: Samples, path: Path) -> None:
    """Writes the module as ONNX, batch 1, weights inside."""
    example = tuple(torch.from_numpy(x[:1]) for x in given.values())
    torch.onnx.export(
        module.eval(), example, path, input_names=list(given), output_names=["y"], dynamo=True, external_data=False
    )
