"""Receiving: instances per second beside Orthanc, and how long a CT takes to become a report.

    make bench-receive

Both servers get the same 200 CT instances (512 x 512 x 16 bit) from dcmsend over one association,
in turns, each time on an emptied disk. TCP_NODELAY is set at both ends. The node answers after
fsync of file, folder and row; Orthanc with its default SyncStorageArea. Every acknowledged instance
is counted at the receiver. Times are printed, never asserted.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers import ENVIRONMENT, Orthanc, Serve, stopped_at_the_end, tool, wait_for

from dicom_node.parts import open_parts
from training.phantoms import ct_series, uid_source

INSTANCES = 200
ROUNDS = 3
QUIET_S = 1.0


def seconds_to_send(port: int, ae_title: str, folder: Path) -> float:
    """Send a folder over one association and return the wall time of the whole command."""
    start = time.perf_counter()
    command = [tool("dcmsend"), "-aec", ae_title, "127.0.0.1", port, "+sd", folder]
    subprocess.run([str(part) for part in command], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def node_round(folder: Path, instances: Path) -> float:
    """Return instances per second into a fresh node."""
    settings = "[lifecycle]\nseries_quiet_s = 60\nstudy_quiet_s = 60\n"
    with stopped_at_the_end(Serve(folder, settings)) as node:
        elapsed = seconds_to_send(node.port, "SIMILIS", instances)
    parts = open_parts(node.settings())
    kept = parts.catalogue.counts().instances
    parts.close()
    check(kept, "the node")
    return INSTANCES / elapsed


def orthanc_round(folder: Path, instances: Path) -> float:
    """Return instances per second into a fresh Orthanc."""
    with stopped_at_the_end(Orthanc(folder, {})) as orthanc:
        elapsed = seconds_to_send(orthanc.port, "ORTHANC", instances)
        check(orthanc.get("/statistics")["CountInstances"], "Orthanc")
    return INSTANCES / elapsed


def check(kept: int, who: str) -> None:
    """Stop when an acknowledged instance is missing: its time would mean nothing."""
    if kept != INSTANCES:
        raise SystemExit(f"{who} acknowledged {INSTANCES} instances and kept {kept}")


def seconds_to_report(folder: Path, instances: Path) -> float:
    """Return the time from the last C-STORE response to the report in the PACS, silence apart."""
    folder.mkdir()
    with stopped_at_the_end(Orthanc(folder / "orthanc", {})) as orthanc:
        settings = (
            f"[lifecycle]\nseries_quiet_s = {QUIET_S}\nstudy_quiet_s = {QUIET_S}\n"
            f"[destinations.pacs]\nae_title = 'ORTHANC'\nhost = '127.0.0.1'\n"
            f"port = {orthanc.port}\n"
        )
        with stopped_at_the_end(Serve(folder / "node", settings)) as node:
            seconds_to_send(node.port, "SIMILIS", instances)
            sent = time.perf_counter()
            wait_for("the report", lambda: orthanc.get("/statistics")["CountInstances"], 120)
            return time.perf_counter() - sent - QUIET_S


def main() -> None:
    """Run everything and print the figures."""
    with tempfile.TemporaryDirectory(prefix="similis-bench-") as name:
        scratch = Path(name)
        new_uid = uid_source(1)
        ct_series(scratch / "200", new_uid=new_uid, slices=INSTANCES)
        ct_series(scratch / "100", new_uid=new_uid, slices=100)
        servers: dict[str, Callable[[Path, Path], float]] = {
            "Similis": node_round,
            "Orthanc": orthanc_round,
        }
        rates: dict[str, list[float]] = {server: [] for server in servers}
        for turn in range(ROUNDS):
            for server, run in servers.items():
                rates[server].append(run(scratch / f"{server}-{turn}", scratch / "200"))
        for server, found in rates.items():
            print(f"{server}: {median(found):.0f} instances/s ({found})")
        ratio = median(rates["Similis"]) / median(rates["Orthanc"])
        print(f"Similis / Orthanc: {ratio:.2f}")
        delays = [
            seconds_to_report(scratch / f"report-{n}", scratch / "100") for n in range(ROUNDS)
        ]
        print(f"last C-STORE response to report, 100 slices: {median(delays):.2f} s ({delays})")


if __name__ == "__main__":
    main()
