"""Files of retina and ECG through `similis train bind`, from their readers to sentences that ask.

The files are generated and say so: that binding takes these modalities as all others is tested, not
how well it tells eyes or hearts.
"""

from pathlib import Path

import numpy as np
from encoders import small_encoder
from eyes_and_hearts import EACH, GENERATED, LAYERS, WRITERS, write_generated
from pydicom import dcmread
from towers import word_tower
from typer.testing import CliRunner

from dicom_node.cli.app import app
from encoder import checkpoint as checkpoints
from encoder import space_checkpoint, text_checkpoint
from encoder.clip import Kind
from encoder.text_space import TextSpace
from training.baselines import SimilisEncoder
from training.captions import every_caption
from training.evaluate import embed_items, placed
from training.facts import facts_of
from training.manifest import Split, read_items
from training.reading import read_largest
from training.text_space import SPACE

SETTINGS = ("adapt_steps=0", "bind_steps=200", "unify_steps=100", "terms=9", "captions=24",
            "dim=16", "bind_batch=32", "unify_batch=32", "bind_lr=0.01",
            "unify_lr=0.01")  # fmt: skip
ASKED = {
    "OP": ("ophthalmic photograph", "a photograph of the fundus"),
    "OPT": ("optical coherence tomography", "OCT of the retina"),
    "ECG": ("electrocardiogram", "ECG recording of the heart"),
}


def test_generated_files_say_so_and_are_read_as_what_they_are(tmp_path: Path) -> None:
    items = read_items(write_generated(tmp_path))
    assert len(items) == EACH * len(WRITERS)
    kinds = {item.modality: read_largest(item) for item in items}
    assert {name: clip.kind for name, clip in kinds.items()} == {
        "OP": Kind.STILL,
        "OPT": Kind.VOLUME,
        "ECG": Kind.STILL,
    }
    assert kinds["OPT"].array.shape[1] == LAYERS
    assert all(dcmread(item.files[0]).ImageComments == GENERATED for item in items)


def test_a_sentence_finds_its_modality_among_files_that_were_bound(tmp_path: Path) -> None:
    manifest = write_generated(tmp_path)
    items = read_items(manifest)
    encoder = small_encoder(tmp_path / "encoder", 1)
    said = {one for item in items for one in every_caption(facts_of(item))}
    words = [*said, *(sentence for asked in ASKED.values() for sentence in asked)]
    text_checkpoint.save(tmp_path / "tower", word_tower(words))

    arguments = ["train", "bind", "--data", manifest, "--out", tmp_path / "run", "--device", "cpu",
                 "--encoder", encoder, "--text", tmp_path / "tower"]  # fmt: skip
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    told = CliRunner().invoke(app, [str(a) for a in (*arguments, *settings)])

    assert told.exit_code == 0, told.output
    assert "of ECG, OP, OPT" in told.stdout
    assert "left out" not in told.stderr
    loaded = checkpoints.load(encoder)
    checkpoint = space_checkpoint.load(
        tmp_path / "run" / SPACE, image_model_id=checkpoints.model_id(loaded)
    )
    space = TextSpace(checkpoint, device="cpu")
    asked = [item for item in items if item.split is Split.EVAL]
    method = SimilisEncoder(loaded, "images", device="cpu")
    images = placed(embed_items(asked, method, lambda: None), space).vectors
    for modality, sentences in ASKED.items():
        of_each = [row for row, item in enumerate(asked) if item.modality == modality]
        for sentence in sentences:
            order = np.argsort(-(images @ space.texts([sentence])[0]))
            assert set(order[: len(of_each)]) == set(of_each), sentence
