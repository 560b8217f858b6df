"""A short run of `make fuzz`: the worker outlives damaged files, and each is accounted for."""

import random
from pathlib import Path

from bench.fuzz_worker import LONGEST_S, Outcome, fuzz
from mutations import MUTATIONS, mutants, seeds


def test_damaged_files_are_all_accounted_for_and_end_no_worker(tmp_path: Path) -> None:
    account = fuzz(300, 2, tmp_path / "scratch", tmp_path / "killers")

    assert account.total >= 300
    assert account.longest_s < LONGEST_S
    assert account.reasons == {}
    assert min(account.files[o] for o in (Outcome.EMBEDDED, Outcome.UNREADABLE)) > 10


def test_the_same_seed_gives_the_same_mutants_and_every_mutation_damages(tmp_path: Path) -> None:
    given = seeds(tmp_path)

    def first(seed: int) -> list[tuple[str, tuple[bytes, ...]]]:
        made = mutants(random.Random(seed), given)
        return [next(made) for _ in range(20)]

    assert first(1) == first(1) != first(2)
    whole = {seed.name: seed.files[0] for seed in given}["MR_small_jpeg_ls_lossless.dcm"]
    for mutate in MUTATIONS:
        data = bytearray(whole)
        for attempt in range(20):
            mutate(random.Random(attempt), data)
        assert data != whole, mutate.__name__
