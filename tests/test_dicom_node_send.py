"""Reports on their way: a PACS that is down, full or gone for good, and a node that restarts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import peers
import pytest
from scripted import Pacs, destination, push

from dicom_node.node import Node
from training import phantoms

QUICK_RETRIES = {"attempts": 30, "first_retry_s": 0.2, "longest_retry_s": 0.2}


@pytest.fixture
def image(tmp_path: Path, new_uid: Callable[[], str]) -> Path:
    return phantoms.still(tmp_path, new_uid=new_uid, size=(64, 48))


@pytest.fixture
def start_pacs() -> Iterator[Callable[..., Pacs]]:
    """Return a function that starts a PACS; all are stopped at the end."""
    with ExitStack() as stack:
        yield lambda port, statuses=(0x0000,): stack.enter_context(
            peers.stopped_at_the_end(Pacs(port, statuses))
        )


# pynetdicom drops the socket of a refused connection unclosed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_report_waits_for_a_pacs_that_is_down_and_survives_a_restart(
    start_node: Callable[..., Node], start_pacs: Callable[..., Pacs], image: Path
) -> None:
    port = peers.free_port()
    settings = {"answer": QUICK_RETRIES, "destinations": destination(port)}
    node = start_node(**settings)
    push(node.port, image)
    peers.wait_for("the report", lambda: node.catalogue.counts().reports == {"created": 1})
    node.stop()

    node = start_node(**settings)
    assert node.catalogue.counts().reports == {"created": 1}
    assert sum(node.catalogue.counts().jobs.values()) == 1
    pacs = start_pacs(port)
    peers.wait_for("its delivery", lambda: node.catalogue.counts().reports == {"sent": 1})

    assert len(pacs.kept) == 1
    peers.wait_for("the end of the job", lambda: not node.catalogue.counts().jobs)


@pytest.mark.parametrize("taken", [0x0000, 0xB000])  # B000: stored with elements coerced
def test_a_report_is_offered_again_until_it_is_taken_and_then_no_more(
    start_node: Callable[..., Node], start_pacs: Callable[..., Pacs], image: Path, taken: int
) -> None:
    pacs = start_pacs(0, (0xA700, 0xC000, taken))
    node = start_node(answer=QUICK_RETRIES, destinations=destination(pacs.port))

    push(node.port, image)
    peers.wait_for("its delivery", lambda: node.catalogue.counts().reports == {"sent": 1})
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))

    assert pacs.offered == 3


def test_a_report_that_nobody_takes_is_given_up_as_failed(
    start_node: Callable[..., Node], start_pacs: Callable[..., Pacs], image: Path
) -> None:
    pacs = start_pacs(0, (0xA700,))
    attempts = {"attempts": 3, "first_retry_s": 0.1, "longest_retry_s": 0.1}
    node = start_node(answer=attempts, destinations=destination(pacs.port))

    push(node.port, image)
    peers.wait_for("the end", lambda: node.catalogue.counts().reports == {"failed": 1})

    peers.wait_for("its job", lambda: node.catalogue.counts().jobs == {"failed": 1})
    assert pacs.offered == 3
