"""`similis status`: how much there is, what waits, and what could not be read."""

from dataclasses import asdict

from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    print_json,
    print_table,
)
from dicom_node.generation import answering_model
from dicom_node.parts import existing_parts
from index.lookups import Counts


def status(data: DataOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print counts, queues, the encoder, and the quarantined series with their reasons."""
    parts = existing_parts(configured(config, data))
    counts = parts.catalogue.counts()
    encoder = answering_model(parts)
    generations = parts.catalogue.generations()
    parts.close()
    if json:
        told = {"encoder": asdict(encoder), "generations": [asdict(each) for each in generations]}
        print_json(told | _as_dict(counts))
        return
    rows: list[tuple[str, str, object]] = [("encoder", encoder.version, "")]
    rows += [("generation", f"{each.version} {each.state}", "") for each in generations]
    for what in ("studies", "series"):
        rows += [(what, state, n) for state, n in getattr(counts, what).items()]
    rows += [("guests", "of the studies", counts.guests)]
    rows += [("instances", "", counts.instances), ("clips", "", counts.clips)]
    for what in ("embeddings", "jobs", "reports"):
        rows += [(what, key, n) for key, n in getattr(counts, what).items()]
    rows += [("series skipped", reason, n) for reason, n in counts.skipped.items()]
    print_table("Similis", ("what", "", "number"), rows)
    if counts.quarantined:
        print_table(
            "Quarantined series",
            ("series", "reason"),
            [(q.series_instance_uid, q.reason) for q in counts.quarantined],
        )


def _as_dict(counts: Counts) -> dict[str, object]:
    return {
        "studies": dict(counts.studies),
        "guests": counts.guests,
        "series": dict(counts.series),
        "instances": counts.instances,
        "clips": counts.clips,
        "embeddings": dict(counts.embeddings),
        "jobs": dict(counts.jobs),
        "reports": dict(counts.reports),
        "skipped": dict(counts.skipped),
        "quarantined": [
            {"series_instance_uid": q.series_instance_uid, "reason": q.reason}
            for q in counts.quarantined
        ],
    }
