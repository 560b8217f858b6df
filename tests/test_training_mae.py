import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from imagesets import SMALL

from training.mae import Decoder, hide, restoration_loss, take, target


@given(st.integers(2, 50), st.floats(0.01, 0.99), st.integers(0, 99))
def test_every_token_is_either_shown_or_hidden(length: int, part: float, seed: int) -> None:
    draws = torch.rand(3, length, generator=torch.Generator().manual_seed(seed))
    shown, hidden = hide(draws, part)
    assert shown.shape[1] >= 1
    assert hidden.shape[1] >= 1
    both = torch.cat([shown, hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(length).expand(3, -1))


def test_what_is_hidden_is_the_part_asked_for() -> None:
    shown, hidden = hide(torch.rand(2, 64), 0.75)
    assert (shown.shape[1], hidden.shape[1]) == (16, 48)


def test_taking_by_ids_keeps_tokens_whole() -> None:
    tokens = torch.arange(24.0).view(1, 6, 4)
    assert torch.equal(take(tokens, torch.tensor([[5, 0]])), tokens[:, [5, 0]])


def test_each_patch_is_its_own_target_scale() -> None:
    patches = torch.rand(2, 3, 64) * torch.tensor([1.0, 10.0, 100.0])[:, None] + 5
    normalised = target(patches)
    torch.testing.assert_close(normalised.mean(-1), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std(-1), torch.ones(2, 3), atol=1e-3, rtol=0)


def test_a_perfect_restoration_has_no_loss_and_a_blank_one_has_about_one() -> None:
    patches = torch.rand(2, 3, 64)
    assert float(restoration_loss(target(patches), patches)) == 0
    assert float(restoration_loss(torch.zeros(2, 3, 64), patches)) == pytest.approx(1, abs=0.03)


def test_a_still_is_restored_as_the_mean_frame_of_a_clip() -> None:
    decoder = Decoder(SMALL, width=12, depth=1)
    tokens, places, asked = torch.randn(2, 3, 24), torch.rand(2, 3, 3), torch.rand(2, 5, 3)
    clip = decoder(tokens, places, asked, 3 * 2 * 64)
    still = decoder(tokens, places, asked, 3 * 64)
    torch.testing.assert_close(still, clip.view(2, 5, 3, 2, 64).mean(dim=3).flatten(2))
