"""The vector index: recall and time beside hnswlib, faiss, usearch and the exact scan.

    make bench-index [SIZE=100000] [THREADS=2] [DATABASE=postgresql://…] [PEERS=hnswlib,faiss]

Not named index.py, which would hide the package. Vectors are made up (`clusters`), the answers are
judged by comparing everything (`oracle`). The product is asked through `Search`, over a catalogue
in SQLite with all rows: other patients, one case per study. The other engines give ten bare rows
(`engines`). All are asked in turns in one run, so that ratios hold on a busy machine; times of
building are CPU seconds. Nothing is asserted. A million vectors take some 16 GB of memory, 6 GB of
disk, and an hour on two processors.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: the exact scan on one thread too

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from clusters import DIM, MODEL, Archive, Rows, fill, make_archive, study_uid
from engines import CONFIG, Cost, Engine, Times, built, others, saved
from oracle import Filter, Question, filters, make_questions, nearest_rows, nearest_studies, recall
from oracle import scores as scores_of

from index.catalogue import Catalogue
from index.db import connect, migrate
from index.hnsw import HnswIndex
from index.records import Ranking
from index.search import Search
from index.vectors import VectorIndex

K, LATER, ASKING, WARM_UP, SCANS = 10, 10_000, 20_000, 5, 30
EFFORTS = (20, 40, 80, 160, 320, 640)
PRODUCT = "Similis"
_PERCENTILES = ("p50", "p99", "CPU p50", "CPU p99")


@dataclass(slots=True)
class Line:
    """What one engine, at one effort or under one filter, did."""

    times: Times = field(default_factory=Times)
    recalls: list[float] = field(default_factory=list)
    exact: int = 0

    @property
    def p50(self) -> float:
        """Return the median in milliseconds."""
        return float(np.median(self.times.wall))

    @property
    def recall(self) -> float:
        """Return the mean recall."""
        return float(np.mean(self.recalls))

    def cells(self) -> tuple[str, ...]:
        """Return recall, then p50 and p99 of wall and of CPU time."""
        wall, cpu = self.times.wall, self.times.cpu
        return (
            f"{self.recall:.4f}",
            *(f"{t:.3f}" for t in (self.p50, np.percentile(wall, 99))),
            *(f"{t:.3f}" for t in (np.median(cpu), np.percentile(cpu, 99))),
        )


@dataclass(frozen=True, slots=True)
class Right:
    """The right answers to one question: rows of all, studies by filter."""

    rows: Rows
    studies: dict[str, Rows]


@dataclass(frozen=True, slots=True)
class Node:
    """The product: a catalogue, an index that follows it, and the search over both."""

    catalogue: Catalogue
    index: VectorIndex
    search: Search

    def similar(self, question: Question, wanted: Filter) -> Ranking:
        """Answer a question."""
        return self.search.similar(question.query(K, wanted.asked))


def open_catalogue(url: str, archive: Archive) -> Catalogue:
    """Return a new catalogue that holds the archive."""
    engine = connect(url)
    migrate(engine)
    catalogue = Catalogue(engine, lambda: datetime.now(UTC))
    fill(catalogue, archive, 0, archive.size)
    return catalogue


def open_node(catalogue: Catalogue, folder: Path, threads: int) -> Node:
    """Return the product with its built-in index, which is built now."""
    config = replace(CONFIG, build_threads=threads)
    index = HnswIndex.open(folder, catalogue, model_id=MODEL, dim=DIM, config=config)
    return Node(catalogue, index, Search(catalogue, index, config))


def open_postgres(catalogue: Catalogue) -> Node:
    """Return the product with pgvector, where this version has it."""
    from index.pgvector import PgVectorIndex

    index = PgVectorIndex.open(catalogue, model_id=MODEL, dim=DIM, config=CONFIG)
    return Node(catalogue, index, Search(catalogue, index, CONFIG))


def right_answers(
    archive: Archive, questions: Sequence[Question], wanted: dict[str, Filter]
) -> list[Right]:
    """Compare every question with every row."""
    return [
        Right(
            nearest_rows(found, K),
            {name: nearest_studies(archive, asked, found, f, K) for name, f in wanted.items()},
        )
        for asked, found in scores_of(archive, questions)
    ]


def ask_product(
    line: Line, node: Node, question: Question, wanted: Filter, expected: Rows | None
) -> None:
    """Ask the product once."""
    ranking = line.times.take(lambda: node.similar(question, wanted))
    if expected is not None:
        found = [case.study_instance_uid for case in ranking.cases]
        line.recalls.append(recall(found, [study_uid(n) for n in expected.tolist()]))
        line.exact += ranking.exact


def ask_other(
    line: Line, engine: Engine, question: Question, effort: int, expected: Rows | None
) -> None:
    """Ask another engine once."""
    found = line.times.take(lambda: engine.nearest(question.vector, K, effort))
    if expected is not None:
        line.recalls.append(recall(found.tolist(), expected.tolist()))


Call = Callable[[Line, Question, Right | None], None]


def calls(
    nodes: dict[str, Node], engines: dict[str, Engine], wanted: dict[str, Filter]
) -> dict[tuple[str, str], Call]:
    """Return how to ask whom, by engine and by effort or filter."""
    found: dict[tuple[str, str], Call] = {}
    for name, node in nodes.items():
        for key, each in wanted.items():
            found[name, key] = lambda line, asked, right, n=node, k=key, f=each: ask_product(
                line, n, asked, f, right and right.studies[k]
            )
    for name, engine in engines.items():
        for effort in (0,) if name.startswith("scan") else EFFORTS:
            found[name, f"ef {effort}" if effort else "all"] = (
                lambda line, asked, right, e=engine, ef=effort: ask_other(
                    line, e, asked, ef, right and right.rows
                )
            )
    return found


def ask_in_turns(
    asking: dict[tuple[str, str], Call], questions: Sequence[Question], right: Sequence[Right]
) -> dict[tuple[str, str], Line]:
    """Ask everybody every question, scans only a few.

    In one round all get different questions: what one has read would lie in the caches for the
    next.
    """
    lines = {key: Line() for key in asking}
    for question in questions[:WARM_UP]:
        for call in asking.values():
            call(Line(), question, None)
    apart = max(1, len(questions) // len(asking))
    for turn in range(len(questions)):
        for place, (key, call) in enumerate(asking.items()):
            if not key[0].startswith("scan") or turn < SCANS:
                number = (turn + place * apart) % len(questions)
                call(lines[key], questions[number], right[number])
    return lines


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What coming level took: seconds until all was findable, until the end, CPU seconds of it."""

    findable_s: float
    seconds: float
    cpu_s: float
    meanwhile: Line

    def __str__(self) -> str:
        asked = self.meanwhile.times.wall
        p50, p99 = np.percentile(asked, (50, 99))
        return (
            f"{LATER} vectors, findable after {self.findable_s:.1f} s, caught up with in "
            f"{self.seconds:.1f} s ({self.cpu_s:.1f} of CPU); {len(asked)} questions meanwhile, "
            f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
        )


def catch_up(archive: Archive, node: Node, questions: Sequence[Question]) -> CaughtUp:
    """Add what came later while questions go on."""
    fill(node.catalogue, archive, archive.size, archive.known)
    line, done = Line(), threading.Event()
    found_s = 0.0
    everything = Filter({}, np.empty(0))

    def keep_asking() -> None:
        nonlocal found_s
        number = 0
        while not done.is_set():
            question = questions[number % len(questions)]
            ask_product(line, node, question, everything, None)
            number += 1
            if not found_s and len(node.index) >= archive.known:
                found_s = time.perf_counter() - began

    began, cpu = time.perf_counter(), time.process_time()
    asker = threading.Thread(target=keep_asking)
    asker.start()
    node.index.catch_up(node.catalogue)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    done.set()
    asker.join()
    if (held := len(node.index.ids())) != archive.known:
        raise SystemExit(f"the index holds {held} vectors, not {archive.known}")
    return CaughtUp(found_s or seconds, seconds, cpu_s - sum(line.times.cpu) / 1000, line)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    print(f"\n{title}\n" + " | ".join(f"{c:>14}" for c in columns))
    for row in rows:
        print(" | ".join(f"{cell!s:>14}" for cell in row), flush=True)


def overhead(lines: dict[tuple[str, str], Line], name: str) -> str:
    """Compare the product with bare hnswlib at the least effort that finds as much."""
    ours = lines[name, "none"]
    bare = {key: line for key, line in lines.items() if key[0] == "hnswlib"}
    enough = [key for key, line in bare.items() if line.recall >= ours.recall]
    key = enough[0] if enough else max(bare, key=lambda k: bare[k].recall)
    line = bare[key]
    cpu = np.median(ours.times.cpu) / np.median(line.times.cpu)
    return (
        f"{name}, recall {ours.recall:.4f}: {ours.p50 / line.p50:.2f} times the p50 of hnswlib "
        f"at {key[1]}, recall {line.recall:.4f} ({cpu:.2f} times its CPU time)"
    )


def report_queries(
    lines: dict[tuple[str, str], Line], wanted: dict[str, Filter], archive: Archive
) -> None:
    """Print who found what in which time."""
    shares = {key: f"{100 * f.share(archive):.1f} %" for key, f in wanted.items()}
    table(
        "One question at a time, ms",
        ("engine", "effort, filter", "rows allowed", "recall@10", *_PERCENTILES, "exact"),
        [
            (*key, shares.get(key[1], ""), *line.cells(), line.exact or "")
            for key, line in lines.items()
        ],
    )
    for name in dict.fromkeys(key[0] for key in lines if key[0].startswith(PRODUCT)):
        print(overhead(lines, name))


def build(
    archive: Archive, folder: Path, threads: int, database: str, peers: Sequence[str]
) -> tuple[dict[str, Node], dict[str, Engine], dict[str, Cost]]:
    """Build the product and the engines whose names begin so, one after the other."""
    nodes: dict[str, Node] = {}
    engines: dict[str, Engine] = {}
    costs: dict[str, Cost] = {}
    sqlite = folder / "similis.db"
    catalogue, costs["rows in SQLite"] = built(
        lambda: open_catalogue(f"sqlite:///{sqlite}", archive)
    )
    costs["rows in SQLite"].file = sqlite.stat().st_size
    nodes[PRODUCT], costs[PRODUCT] = built(lambda: open_node(catalogue, folder / "v", threads))
    nodes[PRODUCT].index.save()
    costs[PRODUCT].file = sum(path.stat().st_size for path in (folder / "v").iterdir())
    if database:
        kept, costs["rows, PostgreSQL"] = built(lambda: open_catalogue(database, archive))
        name = f"{PRODUCT} pgvector"
        nodes[name], costs[name] = built(lambda: open_postgres(kept))
    for name, make in others(archive.vectors[: archive.size], threads).items():
        if not name.startswith(tuple(peers)):
            continue
        engines[name], costs[name] = built(make)
        costs[name].file = saved(engines[name], folder)
    return nodes, engines, costs


def main() -> None:
    """Run everything and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--database", default="", help="URL of an empty database with pgvector")
    parser.add_argument("--peers", default="", help="names that engines begin with, by commas")
    given = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    began = time.perf_counter()
    archive = make_archive(given.size, later=LATER, asking=ASKING)
    wanted = filters(archive)
    questions = make_questions(archive, given.questions)
    right = right_answers(archive, questions, wanted)
    seconds = time.perf_counter() - began
    print(f"{given.size} vectors, {given.questions} questions, made in {seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="similis-bench-") as name:
        peers = given.peers.split(",")
        nodes, engines, costs = build(archive, Path(name), given.threads, given.database, peers)
        table(
            "Built",
            ("engine", "CPU s", "s", "memory MB", "file MB"),
            [
                (key, f"{c.cpu_s:.1f}", f"{c.wall_s:.1f}", c.memory >> 20, c.file >> 20)
                for key, c in costs.items()
            ],
        )
        lines = ask_in_turns(calls(nodes, engines, wanted), questions, right)
        report_queries(lines, wanted, archive)
        for key, node in nodes.items():
            print(f"{key}: {catch_up(archive, node, questions)}")
            node.catalogue.engine.dispose()
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
