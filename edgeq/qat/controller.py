"""The controller of a one-shot search: a categorical distribution for each layer, learned by policy gradients.

Several assignments are drawn a step and rewarded on the same batch; each is compared with the mean of the others
(leave-one-out REINFORCE; Kool, van Hoof and Welling, 2019), so that what a batch is worth by itself cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from edgeq.qat.node import Tensor

#: Learning rate of the logits; weight of the entropy at the start, falling to nothing.
RATE, ENTROPY = 0.06, 0.3
#: Assignments compared with each other a step.
DRAWN = 4
#: How fast the rewards' spread is forgotten.
_MEMORY = 0.9

#: Layer → place among its choices.
Places = dict[str, int]


class Controller:
    """One distribution a layer.

    Args:
        choices: layer → how many. seed: of the draws.
    """

    def __init__(self, choices: Mapping[str, int], seed: int = 0) -> None:
        self.logits = {name: nn.Parameter(torch.zeros(count)) for name, count in choices.items()}
        self._optimizer = torch.optim.Adam(self.logits.values(), lr=RATE)
        self._generator = torch.Generator().manual_seed(seed)
        self._spread: float | None = None

    def draw(self, evenly: bool = False) -> Places:
        """An assignment; evenly: every choice equally likely."""
        found = {}
        for name, logits in self.logits.items():
            chances = torch.ones_like(logits) if evenly else torch.softmax(logits.detach(), 0)
            found[name] = int(torch.multinomial(chances, 1, generator=self._generator))
        return found

    def learn(self, reward: Callable[[Places], float], progress: float) -> float:
        """Draw, compare, and move towards what was better.

        Args:
            reward: of an assignment, all on the same data.
            progress: of the search, 0 … 1; the entropy's weight falls with it.

        Returns:
            mean reward.
        """
        drawn = [self.draw() for _ in range(DRAWN)]
        rewards = [reward(places) for places in drawn]
        advantages = self._advantages(rewards)
        loss = torch.zeros(())
        for name, logits in self.logits.items():
            logs = torch.log_softmax(logits, 0)
            entropy = -(logs.exp() * logs).sum()
            gained = sum((a * logs[places[name]] for a, places in zip(advantages, drawn, strict=True)), torch.zeros(()))
            loss = loss - gained / DRAWN - ENTROPY * (1 - progress) * entropy / len(self.logits)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return sum(rewards) / DRAWN

    def _advantages(self, rewards: Sequence[float]) -> list[float]:
        """Each reward less the mean of the others, in units of what such differences usually are."""
        mean = sum(rewards) / len(rewards)
        found = [(r - mean) * len(rewards) / (len(rewards) - 1) for r in rewards]
        spread = sum(a * a for a in found) / len(found)
        self._spread = spread if self._spread is None else _MEMORY * self._spread + (1 - _MEMORY) * spread
        return [a / max(self._spread**0.5, 1e-12) for a in found]

    def chances(self) -> dict[str, Tensor]:
        """Layer → probability of each choice."""
        return {name: torch.softmax(logits.detach(), 0) for name, logits in self.logits.items()}

    def certainty(self) -> float:
        """Mean over the layers of the likeliest choice's probability."""
        tops = [float(chances.max()) for chances in self.chances().values()]
        return sum(tops) / max(1, len(tops))
