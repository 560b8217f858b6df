"""The database's leader dies under a running node: nothing acknowledged is lost, and it goes on."""

from collections.abc import Iterator

import pytest
import test_index_contract as contract
from catalogues import Clock, open_catalogue
from cluster import missing, running_cluster
from engines import pgvector
from failover import ROWS, Outcome, rehearse
from postgres import closed_connections

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}"),
]

TTL_S = 20  # deploy/ha/patroni.yml
MARGIN_S = 25  # to notice, promote and connect, on two cores with other work


@pytest.fixture(scope="module")
def survived(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[contract.World, Outcome]]:
    """A search that was opened before the failover, and what a writer met during it."""
    with running_cluster() as cluster, closed_connections():
        cluster.create_database("contract")
        catalogue = open_catalogue(cluster.url("contract"), Clock())
        for world in contract.filled_world(pgvector, catalogue, tmp_path_factory):
            yield world, rehearse(cluster)


@pytest.fixture(scope="module")
def world(survived: tuple[contract.World, Outcome]) -> contract.World:
    return survived[0]


@pytest.fixture(scope="module")
def outcome(survived: tuple[contract.World, Outcome]) -> Outcome:
    return survived[1]


def test_no_acknowledged_row_is_lost(outcome: Outcome) -> None:
    assert outcome.lost == ()
    assert outcome.acknowledged >= 2 * ROWS
    assert outcome.refusals > 0, "the leader must die while there are writes"


def test_writes_go_on_by_themselves(outcome: Outcome) -> None:
    assert outcome.unwritable_s < TTL_S + MARGIN_S


def test_answers_stay_as_they_were(outcome: Outcome) -> None:
    assert outcome.identical == outcome.answers
    assert outcome.identical_by_graph >= 0.98 * outcome.answers


@pytest.mark.parametrize(
    "check",
    [
        contract.test_recall_at_ten_of_the_candidates,
        contract.test_scores_are_those_of_the_oracle,
        contract.test_exact_effort_compares_everything,
        contract.test_what_is_far_from_the_query_is_found_where_nothing_else_is_allowed,
    ],
    ids=lambda check: check.__name__,
)
def test_the_contract_holds_on_the_new_leader(world: contract.World, check: object) -> None:
    assert callable(check)
    check(world)


@pytest.mark.parametrize("scope", contract.SCOPES.values(), ids=contract.SCOPES.keys())
def test_scopes_are_kept_on_the_new_leader(world: contract.World, scope: dict[str, object]) -> None:
    contract.test_a_scope_is_kept_and_filled(world, scope)


def test_the_index_is_well_on_the_new_leader(world: contract.World) -> None:
    assert world.index.health() == ""
    assert world.index.ids().tolist() == world.oracle.ids().tolist()
