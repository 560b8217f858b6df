import pytest
import torch
from torch.nn import functional

from training.bind_config import Contrast
from training.contrast import clip, contrast, siglip

SCALE, OFFSET = torch.tensor(10.0), torch.tensor(-5.0)


def test_siglip_with_one_right_answer_is_the_published_loss() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    truth = 2 * torch.eye(4) - 1
    expected = -functional.logsigmoid(truth * logits).mean()
    torch.testing.assert_close(siglip(logits, truth), expected)


def test_clip_with_one_right_answer_is_cross_entropy() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    expected = functional.cross_entropy(logits, torch.arange(4))
    torch.testing.assert_close(clip(logits, 2 * torch.eye(4) - 1), expected)


@pytest.mark.parametrize("kind", Contrast)
def test_what_is_not_known_does_not_count(kind: Contrast) -> None:
    cosines = torch.tensor([[0.9, -0.2, 0.1], [0.0, 0.8, 0.3]])
    truth = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    other = cosines.clone()
    other[:, 2] = -1.0
    losses = [contrast(kind, c, truth, scale=SCALE, offset=OFFSET) for c in (cosines, other)]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("kind", Contrast)
def test_several_right_answers_are_all_drawn_near(kind: Contrast) -> None:
    cosines = torch.zeros(2, 3, requires_grad=True)
    truth = torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    contrast(kind, cosines, truth, scale=SCALE, offset=OFFSET).backward()
    assert ((cosines.grad < 0) == (truth > 0)).all()


@pytest.mark.parametrize("kind", Contrast)
def test_a_batch_of_which_nothing_is_known_costs_nothing(kind: Contrast) -> None:
    cosines = torch.zeros(2, 3, requires_grad=True)
    loss = contrast(kind, cosines, torch.zeros(2, 3), scale=SCALE, offset=OFFSET)
    loss.backward()
    assert loss.item() == 0.0
    assert cosines.grad.isfinite().all()
