import numpy as np
import pytest
from pydicom import Dataset

from encoder.headers import evenly, frame_times

STEP = [0.0, 0.02, 0.04, 0.06]
VECTOR = [0, 10, 30, 40]
UNEVEN = [0.0, 0.01, 0.04, 0.08]


def loop(**attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.NumberOfFrames = 4
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("attributes", "times_s"),
    [
        ({"FrameTime": 20, "FrameTimeVector": VECTOR, "CineRate": 1}, STEP),
        ({"FrameTimeVector": VECTOR, "CineRate": 1}, UNEVEN),
        ({"CineRate": 50, "RecommendedDisplayFrameRate": 1}, STEP),
        ({"RecommendedDisplayFrameRate": 50}, STEP),
        ({}, None),
        # The pointer says which of the two is meant.
        (
            {"FrameTime": 20, "FrameTimeVector": VECTOR, "FrameIncrementPointer": 0x00181065},
            UNEVEN,
        ),
        (
            {"FrameTime": 20, "FrameTimeVector": VECTOR, "FrameIncrementPointer": 0x00181063},
            STEP,
        ),
        # What comes before the first frame has no meaning.
        ({"FrameTimeVector": [999, 10, 30, 40]}, UNEVEN),
    ],
)
def test_frame_times_are_believed_in_order(
    attributes: dict[str, object], times_s: list[float] | None
) -> None:
    times = frame_times(loop(**attributes))
    assert times is None if times_s is None else times == pytest.approx(times_s)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"FrameTime": 0},
        {"FrameTime": -20},
        {"FrameTime": 1e-9},
        {"FrameTime": 1e12},
        {"FrameTimeVector": VECTOR[:3]},
        {"FrameTimeVector": [*VECTOR, 10]},
        {"FrameTimeVector": [0, 0, 0, 0]},
        {"FrameTimeVector": [0, 10, -30, 40]},
        {"FrameTimeVector": [0, 10, 1e12, 40]},
        {"FrameTimeVector": 20},
    ],
)
def test_nonsense_is_passed_over_for_the_next_statement(nonsense: dict[str, object]) -> None:
    assert frame_times(loop(**nonsense)) is None
    assert frame_times(loop(**nonsense, CineRate=50)) == pytest.approx(STEP)


@pytest.mark.parametrize("rate_hz", [0, -25, 10**9])
def test_a_rate_of_no_camera_is_passed_over(rate_hz: int) -> None:
    assert frame_times(loop(CineRate=rate_hz)) is None
    times = frame_times(loop(CineRate=rate_hz, RecommendedDisplayFrameRate=50))
    assert times == pytest.approx(STEP)


def test_frames_are_taken_by_time_and_not_by_count() -> None:
    fast_then_slow = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 1.0, 2.0, 3.0])
    assert evenly(fast_then_slow, 4) == [0, 5, 6, 7]
