"""The training loop: progress, checkpoints, resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgeq import qat
from edgeq.errors import DataError, UsageError
from edgeq.qat.training import TrainingError, fit
from tests.qat.models import Cnn, images

pytestmark = pytest.mark.filterwarnings("ignore")


def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = images(48)
    y = (x.mean((1, 2, 3)) > 0).long()
    return [(x[i : i + 16], y[i : i + 16]) for i in range(0, 48, 16)]


def prepared() -> qat.QatModule:
    torch.manual_seed(0)
    return qat.prepare(Cnn().eval(), images(), {"defaults": {"weight_bits": 4, "activation_bits": 4}})


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = prepared()
    history = fit(whole, data(), 3, checkpoint=tmp_path / "whole.pt")
    broken, path, seen = prepared(), tmp_path / "broken.pt", []

    def stop(progress: qat.Progress) -> None:
        seen.append(str(progress))
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(broken, data(), 3, checkpoint=path, progress=stop)
    again = prepared()
    assert fit(again, data(), 3, checkpoint=path) == history
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert seen[0].startswith("epoch 1/3: loss ")
    assert not again.training
    assert history[-1].loss < history[0].loss


def test_labels_need_not_be_classes() -> None:
    x = images(16)
    (progress,) = fit(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), [(x, x.mean((1, 2, 3))[:, None])], 1, loss=nn.functional.mse_loss
    )
    assert progress.accuracy is None
    assert "right" not in str(progress)


def test_refusals(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(UsageError, match="at least one epoch"):
        fit(net, data(), 0)
    with pytest.raises(UsageError, match="read again"):
        fit(net, iter(data()), 1)
    with pytest.raises(UsageError, match="no batches"):
        fit(net, [], 1)
    with pytest.raises(TrainingError, match="not a number"):
        fit(net, [(x * float("nan"), y) for x, y in data()], 1)
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    with pytest.raises(DataError, match="can't be resumed"):
        fit(net, data(), 1, checkpoint=tmp_path / "broken.pt")
    fit(net, data(), 1, checkpoint=tmp_path / "other.pt")
    with pytest.raises(DataError, match="can't be resumed") as caught:
        fit(net, data(), 2, checkpoint=tmp_path / "other.pt")
    assert "run of 1 epochs" in (caught.value.why or "")
