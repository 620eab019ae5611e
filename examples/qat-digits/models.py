"""Two small networks for 8x8 digits: a CNN with a residual block and a vision transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution 3x3, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Cnn(nn.Module):
    """Three stages, the second one residual: 21,000 weights."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = convolution(1, width)
        self.block = nn.Sequential(convolution(width, width), convolution(width, width))
        self.down = convolution(width, 2 * width, stride=2)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 1, 8, 8] to logits [n, 10]."""
        x = self.stem(x)
        x = self.down(x + self.block(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [n, t, width] to tokens."""
        n, t, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, width))
        tokens: Tensor = x + self.mlp(self.norm2(x))
        return tokens


class Vit(nn.Module):
    """Sixteen patches of 2x2 pixels, two layers of two heads: 28,000 weights."""

    def __init__(self, width: int = 40, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, 16, width) * 0.5)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 1, 8, 8] to logits [n, 10]."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.layers(x)).mean(1))
        return logits
