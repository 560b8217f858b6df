import torch
from towers import CONFIG, small_network

from encoder.text import TextTower, build
from training.lowrank import LowRank, lower, merged

NUMBERS = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(1))
PRESENT = torch.ones(3, 9, dtype=torch.bool)


def changed_tower() -> TextTower:
    tower = lower(build(CONFIG, small_network()), rank=2, alpha=4.0, seed=1)
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(generator=torch.Generator().manual_seed(2))
    return tower


def test_an_untrained_change_changes_nothing() -> None:
    tower = lower(build(CONFIG, small_network()), rank=2, alpha=4.0, seed=1)
    plain = build(CONFIG, small_network())
    torch.testing.assert_close(tower(NUMBERS, PRESENT), plain(NUMBERS, PRESENT))


def test_only_queries_and_values_learn() -> None:
    tower = changed_tower()
    learning = {name for name, p in tower.named_parameters() if p.requires_grad}
    assert learning == {f"blocks.{n}.qkv.{part}" for n in (0, 1) for part in ("up", "down")}
    block = tower.blocks[0].qkv
    assert isinstance(block, LowRank)
    changed = (block.merged() != block.weight).any(dim=1)
    width = CONFIG.width
    assert changed[:width].all()
    assert not changed[width : 2 * width].any()
    assert changed[2 * width :].all()


def test_merged_weights_are_a_plain_tower_that_computes_the_same() -> None:
    tower = changed_tower()
    plain = build(CONFIG, merged(tower))
    torch.testing.assert_close(plain(NUMBERS, PRESENT), tower(NUMBERS, PRESENT))
    assert not torch.equal(
        plain(NUMBERS, PRESENT), build(CONFIG, small_network())(NUMBERS, PRESENT)
    )


def test_rank_nothing_freezes_the_whole_tower() -> None:
    tower = lower(build(CONFIG, small_network()), rank=0, alpha=4.0, seed=1)
    assert not any(p.requires_grad for p in tower.parameters())
    assert merged(tower).keys() == small_network().keys()
