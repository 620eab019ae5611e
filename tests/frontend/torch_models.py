"""Small transformers as people write them, for both of torch's exporters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS, CHANNELS, HEADS, VOCABULARY = 8, 16, 2, 50


class TimmBlock(nn.Module):
    """Packed QKV, unbind, fused or spelled-out attention; pre-norm; class token and positions in front."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, CHANNELS, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, CHANNELS))
        self.position = nn.Parameter(torch.randn(1, 5, CHANNELS))
        self.norm, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 32), nn.GELU(), nn.Linear(32, CHANNELS))
        self.fused = fused

    def attention(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = functional.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * (c // HEADS) ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, c))

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.position
        x = x + self.attention(self.norm(x))
        return (x + self.mlp(self.norm2(x)))[:, 0]


class BertLayer(nn.Module):
    """Token and position embeddings, separate QKV, a mask in one of the usual spellings, mean pooling, unit length."""

    def __init__(self, mask: str) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, CHANNELS), nn.Embedding(TOKENS, CHANNELS)
        self.norm = nn.LayerNorm(CHANNELS)
        self.q, self.k, self.v = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.mask = mask

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], HEADS, CHANNELS // HEADS).transpose(1, 2)

    def attention(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.heads(self.q(x)), self.heads(self.k(x)), self.heads(self.v(x))
        wide = mask[:, None, None, :]
        if self.mask == "sdpa additive":
            added = (1.0 - wide.to(x.dtype)) * torch.finfo(x.dtype).min
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=added)
        if self.mask == "sdpa boolean":
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=wide.bool())
        if self.mask == "sdpa causal":
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if self.mask == "masked_fill":
            logits = logits.masked_fill(wide == 0, float("-inf"))
        elif self.mask == "additive":
            logits = logits + (1.0 - wide.to(x.dtype)) * -10000.0
        elif self.mask == "causal and padding":
            ahead = torch.tril(torch.ones(TOKENS, TOKENS, dtype=torch.bool))
            logits = torch.where(ahead & wide.bool(), logits, torch.tensor(-1e9))
        return logits.softmax(-1) @ v

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places(torch.arange(TOKENS))[None]
        x = self.norm(x)
        x = x + self.attention(x, attention_mask).transpose(1, 2).reshape(x.shape)
        weight = attention_mask[:, :, None].to(x.dtype)
        mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return functional.normalize(mean, p=2.0, dim=1)


class LlamaLike(nn.Module):
    """RMSNorm by hand and by torch, SwiGLU with a packed projection."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(CHANNELS) + 0.5)
        self.up, self.down = nn.Linear(CHANNELS, 64, bias=False), nn.Linear(32, CHANNELS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))
        gate, up = self.up(normed).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


def image_example() -> tuple[Tensor, ...]:
    return (torch.randn(1, 3, 8, 8),)


def text_example() -> tuple[Tensor, ...]:
    ids = torch.randint(1, VOCABULARY, (1, TOKENS))
    ids[0, 5:] = 0
    return ids, (ids != 0).to(torch.int64)
