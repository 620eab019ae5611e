"""The policy: what a person (or a search) decides per layer, read from YAML and checked against the model.

    version: 1
    defaults: {weight_bits: 8, activation: s8, observer: l2.4, requantize: narrow, nonlinear: table, scale: real}
    layers:
      stem.*:      {activation: s16}
      "block[12]": {weight_bits: 4}
      head:        {requantize: single, scale: pow2}

Layers are named as in the model; `*`, `?` and `[…]` match patterns. Later entries win over earlier ones.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeq.errors import PolicyError

ObserverName = Literal["l2.4", "minmax", "moving-average", "percentile", "mse", "entropy"]


RoundingName = Literal["nearest", "gptq", "adaround"]
ClipName = Literal["max", "mse", "output"]


class LayerPolicy(BaseModel):
    """Choices for a layer; None = not decided here.

    Attributes:
        weight_bits: 1 … 8, bits of the weights (stored as int8); 2 are ternary, 1 binary (±1).
        activation: s8 or s16, type of the layer's output. Deciding it takes the layer out of automatic promotion.
        activation_bits: 2 … 8, bits of the layer's output where it is s8: its integers are clamped to
            [−2^(bits−1), 2^(bits−1) − 1]. Among the defaults it leaves the graph's inputs and outputs at 8.
        observer: how the range of its output is found.
        requantize: narrow (16-bit multiplier, for 8-bit outputs) or single (32-bit multiplier, exact rounding).
        nonlinear: table (256 entries) or interp (s16 input, 513 entries, interpolated).
        softmax: exp2 (8-bit probabilities, quadratic fraction) or shiftmax (I-ViT's, 16-bit probabilities).
        gelu: of GELU in any spelling: lut (table), shiftgelu (by shifts) or shiftgelu_paper (as published, relative to
            the largest element of each token).
        weights: fast (a byte each) or small (packed, expanded while the kernel runs), of weights of 4 bits and less;
            else the compiler's option decides.
        scale: real, or pow2: weights are scaled so that the requantization is a shift.
        rounding: how weights become integers; deciding it takes the layer out of the recipe's choice.
        clip: the largest weight an integer stands for: the largest there is, or the least error of weights or output.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight_bits: int | None = Field(default=None, ge=1, le=8)
    activation: Literal["s8", "s16"] | None = None
    activation_bits: int | None = Field(default=None, ge=2, le=8)
    observer: ObserverName | None = None
    requantize: Literal["narrow", "single"] | None = None
    nonlinear: Literal["table", "interp"] | None = None
    softmax: Literal["exp2", "shiftmax"] | None = None
    gelu: Literal["lut", "shiftgelu", "shiftgelu_paper"] | None = None
    weights: Literal["fast", "small"] | None = None
    scale: Literal["real", "pow2"] | None = None
    rounding: RoundingName | None = None
    clip: ClipName | None = None

    def over(self, base: LayerPolicy) -> LayerPolicy:
        """These choices on top of others."""
        return base.model_copy(update=self.model_dump(exclude_none=True))


class Policy(BaseModel):
    """A whole policy: defaults and layers by name or pattern, in order.

    `first`, `last` and `depthwise` speak of the layers with weights that are so (`kinds.py` says which); they come
    after the defaults and before the layers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    defaults: LayerPolicy = LayerPolicy()
    first: LayerPolicy = LayerPolicy()
    last: LayerPolicy = LayerPolicy()
    depthwise: LayerPolicy = LayerPolicy()
    layers: dict[str, LayerPolicy] = Field(default_factory=dict)

    def layer(self, *names: str) -> LayerPolicy:
        """Choices for a layer known by any of the names (node name, output name), defaults filled in."""
        return self.named(*names).over(self.defaults)

    def named(self, *names: str) -> LayerPolicy:
        """Choices of the entries that name a layer, without the defaults."""
        result = LayerPolicy()
        for pattern, choices in self.layers.items():
            if pattern in names or (_is_glob(pattern) and any(_matches(pattern, name) for name in names)):
                result = choices.over(result)
        return result

    def check(self, known: Iterable[str]) -> None:
        """See that every name or pattern matches a layer.

        Raises:
            PolicyError: one matches nothing; the message gives the nearest names.
        """
        names = list(known)
        for pattern in self.layers:
            if not any(_matches(pattern, name) for name in names):
                near = difflib.get_close_matches(pattern, names, 3, 0.5)
                raise PolicyError(
                    f"the policy names a layer that is not in the model: {pattern!r}",
                    where=f"layers.{pattern}",
                    why="no layer or tensor name matches it",
                    hint=f"near matches: {', '.join(near)}" if near else f"for instance {', '.join(names[:3])}",
                )

    @classmethod
    def parse(cls, text: str, where: str = "policy") -> Policy:
        """Read a policy from YAML text.

        Raises:
            PolicyError: not YAML, not a mapping, an unknown key (with near matches), or a value that isn't allowed.
        """
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise PolicyError("the policy is not YAML", where=where, why=str(error)) from error
        if content is None:
            return cls()
        if not isinstance(content, dict):
            raise PolicyError("the policy is not a mapping", where=where, hint="see docs/policy.md for the format")
        return cls.of(content, where)

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str = "policy") -> Policy:
        """A policy from plain values, as YAML gives them.

        Raises:
            PolicyError: an unknown key (with near matches), or a value that isn't allowed.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise _readable(error.errors()[0], where) from error

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a policy file. Raises PolicyError as `parse` does, and when the file can't be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError("the policy file can't be read", where=str(path), why=str(error)) from error
        return cls.parse(text, str(path))


def _is_glob(pattern: str) -> bool:
    # A searched policy has hundreds of names, asked for each tensor: most are told apart without matching anything.
    return "*" in pattern or "?" in pattern or "[" in pattern


def _matches(pattern: str, name: str) -> bool:
    # An exact name wins over its reading as a pattern: names may hold brackets.
    return pattern == name or fnmatch.fnmatchcase(name, pattern)


def _readable(fault: Any, where: str) -> PolicyError:
    path = [str(part) for part in fault["loc"]]
    key = path[-1] if path else ""
    if fault["type"] == "extra_forbidden":
        known = list(Policy.model_fields) if len(path) == 1 else list(LayerPolicy.model_fields)
        near = difflib.get_close_matches(key, known, 1)
        return PolicyError(
            f"unknown key {key!r} in the policy",
            where=f"{where}, {'.'.join(path)}",
            hint=f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}",
        )
    return PolicyError(
        "a value in the policy is not allowed",
        where=f"{where}, {'.'.join(path)}",
        why=f"{fault['msg']}, got {fault['input']!r}",
        hint="see docs/policy.md",
    )
