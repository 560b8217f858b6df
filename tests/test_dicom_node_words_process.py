"""The text process of a node: it dies, is asked nonsense, and is changed over with the encoder."""

import re
import shutil
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pytest
from word_searches import (
    SENTENCE,
    STUDIES,
    WordLibrary,
    encoder_with_space,
    filled,
    filled_in_part,
    uids,
)

from dicom_node.errors import WordsFailed
from dicom_node.node import Node
from dicom_node.operate.reindex import former_encoder, reindex
from dicom_node.words.process import TextProcess
from encoder.errors import BadText

pytestmark = pytest.mark.peer


def test_a_text_process_that_died_is_started_again(words: WordLibrary) -> None:
    process = words.node._texts.running._process
    process.kill()
    process.join()

    final, answers = words.ask(SENTENCE)

    assert (final.Status, len(answers)) == (0x0000, STUDIES)


def test_a_question_that_the_process_cannot_answer_does_not_end_it(words: WordLibrary) -> None:
    running = words.node._texts.running
    before = running._process.pid

    with pytest.raises(WordsFailed) as caught:
        running.images(np.zeros((1, 7), np.float32), ["CT"])

    assert caught.value.lost is False
    assert words.ask(SENTENCE)[0].Status == 0x0000
    assert running._process.pid == before
    assert Path(f"/proc/{before}/comm").read_text() == "similis-words\n"
    limits = Path(f"/proc/{before}/limits").read_text()
    limit = str(words.node.config.encoder.memory_mb << 20)
    assert re.search(rf"Max data size +{limit} ", limits)


def test_the_process_reads_a_sentence_as_its_text_space_does(words: WordLibrary) -> None:
    running = words.node._texts.running

    for sentence in (SENTENCE, "hip MRI without a wombat", f"{SENTENCE} " * 20):
        assert running.understanding(sentence) == words.space.understanding(sentence)
    with pytest.raises(BadText, match="no word"):
        running.understanding("!!!")


def test_words_stay_where_an_upgrade_brings_another_encoder_and_space(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    mine = encoder_with_space(tmp_path, seed=1)
    newer = encoder_with_space(tmp_path, seed=2)
    with peers.stopped_at_the_end(node := filled(tmp_path, mine)):
        before = WordLibrary(node, mine).ask(SENTENCE)[1]
    shutil.rmtree(mine["text"]["folder"])
    shutil.rmtree(mine["encoder"]["checkpoint"])

    upgraded = Node(peers.quick_config(tmp_path / "data", http={"port": 0}, **newer))
    upgraded.start()
    with peers.stopped_at_the_end(upgraded):
        library = WordLibrary(upgraded, newer)
        assert uids(library.ask(SENTENCE)[1]) == uids(before)
        (unused,) = (each for each in events if each["event"] == "text_space_unused")
        assert "`similis reindex`" in unused["advice"]
        first = upgraded._texts.running
        reindex(upgraded._parts, None, share=1.0, advance=lambda done, total: None)
        peers.wait_for("the words of the new encoder", lambda: _has_all_words(upgraded, first))
        expected = library.cosines(SENTENCE)
        assert uids(library.ask(SENTENCE)[1]) == sorted(expected, key=lambda uid: -expected[uid])
        peers.wait_for("the end of the first", lambda: first._process is None)

        _, former = former_encoder(upgraded._parts)
        second = upgraded._texts.running
        reindex(upgraded._parts, former, share=1.0, advance=lambda done, total: None)
        peers.wait_for("the way back", lambda: _has_all_words(upgraded, second))
        assert uids(library.ask(SENTENCE)[1]) == uids(before)


def _has_all_words(node: Node, former: TextProcess) -> bool:
    words = node._generation.now().words
    return words is not None and words.words is not former and len(words.index) == STUDIES


def test_without_a_text_space_that_can_be_read_the_kept_one_answers(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    sections = encoder_with_space(tmp_path)
    with peers.stopped_at_the_end(node := filled(tmp_path, sections)):
        before = WordLibrary(node, sections).ask(SENTENCE)[1]
    broken = sections | {"text": {"folder": str(tmp_path / "nothing")}}

    node = Node(peers.quick_config(tmp_path / "data", http={"port": 0}, **broken))
    node.start()
    with peers.stopped_at_the_end(node):
        assert uids(WordLibrary(node, sections).ask(SENTENCE)[1]) == uids(before)

    (unusable,) = (each for each in events if each["event"] == "text_space_unusable")
    assert "text.folder" in unusable["advice"]


def test_while_words_are_made_the_answers_say_that_cases_may_be_missing(
    words: WordLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, _ = words.ask(SENTENCE)
    assert "ErrorComment" not in final
    whole = words.node._generation.now()
    monkeypatch.setattr(words.node._generation, "_answering", filled_in_part(whole))

    final, answers = words.ask(SENTENCE)

    assert (final.Status, len(answers)) == (0x0000, STUDIES)
    assert final.ErrorComment == "cases may be missing: some are not yet searched by words"


def test_a_sentence_to_a_process_that_is_ended_may_be_asked_again(
    tmp_path: Path,
) -> None:
    sections = encoder_with_space(tmp_path)
    node = filled(tmp_path, sections)
    with peers.stopped_at_the_end(node):
        former = node._generation.now().words
        assert former is not None
        former.words.end()  # as it is when another encoder answers

        final, answers = WordLibrary(node, sections).ask(SENTENCE)

    assert (final.Status, answers) == (0xA700, [])
    assert "ask again" in final.ErrorComment
