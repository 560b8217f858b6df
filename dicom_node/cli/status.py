"""`similis status`: how much there is, what waits, what could not be read; the index's health."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    print_json,
    print_table,
)
from dicom_node.generation import answering_model
from dicom_node.parts import Parts, existing_parts, open_index, utc_now
from dicom_node.receive.worker import Model
from dicom_node.words.kept import trouble_with
from index.graph_file import saved_graph
from index.health import Health, health
from index.hnsw import HnswIndex
from index.lookups import Counts

_LEFT_OUT = "no vector could be made of them: `similis check`, `words_left_out` in the node's log"


def status(
    index: Annotated[
        bool,
        typer.Option("--index", help="Measure the vectors too: recall, hubs, drift of scores."),
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print counts, queues, the encoder, and the quarantined series with their reasons."""
    parts = existing_parts(configured(config, data))
    encoder = answering_model(parts)
    try:
        counts = parts.catalogue.counts()
        generations, spaces = parts.catalogue.generations(), parts.catalogue.spaces()
        words = _words(parts, encoder)
        figures = _measured(parts, encoder) if index else None
    finally:
        parts.close()
    if json:
        told = {
            "encoder": asdict(encoder),
            "generations": [asdict(each) for each in generations],
            "text_spaces": [asdict(each) for each in spaces],
            "words": words,
        }
        measured = {} if figures is None else {"index": figures}
        print_json(told | _as_dict(counts) | measured)
        return
    rows: list[tuple[str, str, object]] = [("encoder", encoder.version, "")]
    rows += [("generation", f"{each.version} {each.state}", "") for each in generations]
    rows += [("text space", each.version, "") for each in spaces]
    print_table("Similis", ("what", "", "number"), rows + _words_rows(words) + _rows(counts))
    if figures is not None:
        print_table("Vector index", ("what", "figure", "meaning"), index_rows(figures))
    if put_aside := [(q.series_instance_uid, q.reason) for q in counts.quarantined]:
        print_table("Quarantined series", ("series", "reason"), put_aside)


def _words(parts: Parts, encoder: Model) -> dict[str, Any]:
    """Return which text space is in use, what it lacks, and what is wrong with the configured.

    A node makes words in the order of the images: those that later ones overtook are left out.
    """
    catalogue = parts.catalogue
    used = catalogue.answering_space()
    told = {"space_id": "", "lacking": 0, "left_out": 0}
    if used is not None:
        newest = catalogue.newest_with_words(used)  # first: what is filled meanwhile is neither
        without = catalogue.without_words(used)
        left_out = int((without < newest).sum())
        told = {
            "space_id": used.space_id,
            "lacking": len(without) - left_out,
            "left_out": left_out,
        }
    return told | {"trouble": trouble_with(parts.folder, parts.config.text, encoder.model_id)}


def _words_rows(words: dict[str, Any]) -> list[tuple[str, str, object]]:
    rows = [
        ("words", words["trouble"] or "searched", ""),
        ("images not searched by words yet", words["space_id"], words["lacking"]),
    ]
    if words["left_out"]:
        rows.append(("images left out of words", _LEFT_OUT, words["left_out"]))
    return rows


def _rows(counts: Counts) -> list[tuple[str, str, object]]:
    rows: list[tuple[str, str, object]] = []
    for what in ("studies", "series"):
        rows += [(what, state, n) for state, n in getattr(counts, what).items()]
    rows += [("guests", "of the studies", counts.guests)]
    rows += [("instances", "", counts.instances), ("clips", "", counts.clips)]
    for what in ("embeddings", "jobs", "reports"):
        rows += [(what, key, n) for key, n in getattr(counts, what).items()]
    rows += [("series skipped", reason, n) for reason, n in counts.skipped.items()]
    return rows


def _measured(parts: Parts, model: Model) -> dict[str, Any]:
    """Return the figures of the index, and of its file as it lies there."""
    opened = open_index(parts, model, read_only=True)
    figures: Health = health(parts.catalogue, opened, now=utc_now())
    file = saved_graph(parts.folder.vectors, model.model_id)
    saved_at = None if file is None else datetime.fromtimestamp(file.st_mtime, UTC)
    return asdict(figures) | {
        "file_bytes": None if file is None else file.st_size,
        "saved_at": None if saved_at is None else saved_at.isoformat(timespec="seconds"),
        "rebuilt_because": opened.opened.rebuilt_because if isinstance(opened, HnswIndex) else "",
    }


def index_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures for people; those that need more vectors are left out."""
    stats, recall, hubs = figures["stats"], figures["recall"], figures["hubness"]
    rows = [
        ("generation", figures["model_id"], "the encoder that made the vectors"),
        ("vectors", f"{stats['vectors']}", "live"),
        ("nodes", f"{stats['nodes']}", f"of the graph; {stats['deleted']} more are deleted"),
    ]
    if figures["file_bytes"] is not None:
        size = f"{figures['file_bytes'] / 1e6:.1f} MB"
        rows.append(("file", size, f"saved {figures['saved_at']}"))
    if figures["rebuilt_because"]:
        rows.append(("rebuilt", "now", figures["rebuilt_because"]))
    if recall is not None:
        how = "every vector is compared" if recall["exact"] else "beside comparing every vector"
        what = f"of the {recall['k']} nearest, {recall['queries']} questions; {how}"
        rows.append(("recall", f"{recall['recall']:.3f}", what))
    if hubs is not None:
        times = f"N_{hubs['k']}: how often one is among the {hubs['k']} nearest of the others"
        rows += [
            ("hubs", f"{hubs['skewness']:.2f}", f"skewness of {times}, {hubs['sampled']} vectors"),
            ("antihubs", f"{100 * hubs['antihubs']:.1f} %", "are never among them"),
            ("biggest hub", f"{hubs['largest']}", f"times among them; {hubs['k']} on average"),
        ]
    for month in figures["drift"]:
        beyond = "more than chance" if month["distance"] > month["chance"] else "as chance gives"
        what = f"between the scores of {month['month']} and those before; {beyond}"
        rows.append(("drift", f"{month['distance']:.3f}", what))
    return rows


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
