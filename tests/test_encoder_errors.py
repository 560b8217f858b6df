import pickle
from pathlib import Path

import pytest

from encoder.errors import BadCheckpoint, EncoderError, UnreadableImage


@pytest.mark.parametrize(
    "error",
    [
        UnreadableImage("1.2.3", "bits\n are missing"),
        BadCheckpoint(Path("encoder"), "it is gone", "Copy it again."),
    ],
)
def test_an_error_crosses_to_another_process_with_its_facts(error: EncoderError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_an_unreadable_image_tells_its_uid_in_one_line() -> None:
    error = UnreadableImage("1.2.3", "bits\n are missing")
    assert str(error) == "cannot read the pixels of SOP instance 1.2.3: bits are missing"
