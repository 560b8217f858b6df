"""The study catalogue: one object in fifteen parts, each a file of its own.

| part | what it does | methods |
|---|---|---|
| `intake.Intake` | receives | record, record_query |
| `inquiries.Inquiries` | is asked by sending | close_inquiries |
| `lifecycle.Lifecycle` | moves on | close_quiet, close_studies, mark_indexed, quarantine, skip, … |
| `embeddings.Embeddings` | keeps vectors | save_clips, study_query, embedding_ids, vectors, … |
| `part_vectors.PartVectors` | keeps their parts | part_steps, part_places |
| `changes.Changes` | tells what changed | bookmark, changes, prune_changes, … |
| `generations.Generations` | knows who answers | answering_generation, swap_generation … |
| `spaces.Spaces` | keeps vectors for words | adopt_space, without_words, save_words … |
| `gallery.Gallery` | is searched | members, case_rows |
| `reports.Reports` | remembers reports | save_report, last_report, report_of, … |
| `commitments.Commitments` | remembers promises | ask_commitment, save_request, … |
| `removal.Removal` | forgets | belongings, forget_study, time_guests, forget_guest, … |
| `repairs.Repairs` | is put right | lose_version, unfit_vectors, … |
| `matching.Matching` | is queried | matching_studies, matching_series, selected_files, … |
| `lookups.Lookups` | answers | series_files, instance_file, study_row, counts, … |

The catalogue is the truth: what it has committed survives any crash, and the vector index can be
rebuilt from it at any time.
"""

from __future__ import annotations

from index.commitments import Commitments
from index.embeddings import Embeddings
from index.gallery import Gallery
from index.generations import Generations
from index.inquiries import Inquiries
from index.intake import Intake
from index.lifecycle import Lifecycle
from index.lookups import Lookups
from index.matching import Matching
from index.part_vectors import PartVectors
from index.removal import Removal
from index.repairs import Repairs
from index.reports import Reports
from index.spaces import Spaces


class Catalogue(
    Intake,
    Inquiries,
    Lifecycle,
    Embeddings,
    Generations,
    PartVectors,
    Spaces,
    Gallery,
    Reports,
    Commitments,
    Removal,
    Repairs,
    Matching,
    Lookups,
):
    """All of the catalogue, over one engine and one clock; safe for many threads.

    Any method may raise DatabaseUnavailable, and those that write CatalogueFull.
    """
