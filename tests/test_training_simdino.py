import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from training.simdino import Head, alignment, balance, coding_rate, expansion, follow


def unit_rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(rows, dim=-1)


@given(st.integers(1, 40), st.integers(1, 24), st.floats(0.01, 2.0), st.integers(0, 99))
def test_the_coding_rate_is_half_a_log_determinant(n: int, d: int, eps: float, seed: int) -> None:
    rows = unit_rows(n, d, seed).double()
    matrix = np.eye(d) + d / (n * eps) * (rows.T @ rows).numpy()
    _, logdet = np.linalg.slogdet(matrix)
    assert float(coding_rate(rows, eps)) == pytest.approx(logdet / 2, rel=1e-4, abs=1e-5)


def test_the_coding_rate_does_not_change_with_a_rotation() -> None:
    rows = unit_rows(32, 16)
    rotation, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(coding_rate(rows @ rotation, 0.05), coding_rate(rows, 0.05))


def test_the_coding_rate_is_least_where_all_rows_are_one() -> None:
    one = unit_rows(1, 16).expand(32, -1)
    assert float(coding_rate(one, 0.05)) == pytest.approx(0.5 * math.log(1 + 16 / 0.05), rel=1e-4)
    assert coding_rate(unit_rows(32, 16), 0.05) > coding_rate(one, 0.05)


def test_the_published_eight_by_sixty_four_run_has_its_published_ceiling() -> None:
    """Eight processes of 64 rows and eps .05 act as eps .4 on 64 rows; the ceiling is 0.450."""
    ceiling = balance(8 * 64, 256) * coding_rate(torch.eye(64, 256), 8 * 0.05)
    assert float(ceiling) == pytest.approx(0.450, abs=5e-4)


def test_the_default_balance_is_that_of_the_published_run() -> None:
    """Alignment weighs about twice what the rate can give, as coefficient 1 over 0.450 does."""
    ceiling = float(balance(96, 128) * coding_rate(torch.eye(96, 128), 0.05))
    assert 1.4 < 6.0 / ceiling < 2.3


def test_the_coding_rate_is_float32_inside_autocast() -> None:
    rows = unit_rows(32, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = coding_rate(rows, 0.05)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, coding_rate(rows, 0.05), rtol=0, atol=0)


def test_alignment_compares_every_view_with_every_other_but_itself() -> None:
    teacher = torch.stack([unit_rows(5, 8, seed) for seed in range(2)])
    student = torch.stack([unit_rows(5, 8, seed) for seed in range(10, 15)])
    pairs = [
        float((teacher[t] * student[v]).sum(-1).mean())
        for t in range(2)
        for v in range(5)
        if t != v
    ]
    assert len(pairs) == 8
    assert float(alignment(teacher, student)) == pytest.approx(sum(pairs) / 8, abs=1e-6)


def test_no_gradient_reaches_the_teacher_and_some_reaches_the_student() -> None:
    teacher = torch.stack([unit_rows(6, 8, seed) for seed in range(2)])
    student = torch.stack([unit_rows(6, 8, seed) for seed in range(3)]).requires_grad_()
    expansion(teacher, student, 0.05).backward()
    assert student.grad is not None
    assert student.grad[:2].abs().sum() > 0
    assert student.grad[2].abs().sum() == 0  # local views do not spread


def test_the_teacher_moves_by_one_minus_momentum() -> None:
    teacher, student = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = [
        t * 0.9 + s * 0.1 for t, s in zip(teacher.parameters(), student.parameters(), strict=True)
    ]
    follow(teacher, student, 0.9)
    torch.testing.assert_close(list(teacher.parameters()), expected)


def test_the_head_gives_unit_rows() -> None:
    out = Head(12, hidden=8, out=4)(torch.randn(7, 12))
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(7))
