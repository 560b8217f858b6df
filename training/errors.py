"""What training and evaluation raise.

TrainingError
├── BadManifest          a table of items that cannot be used; names the row
├── TooManyUnreadable    more items than tolerated cannot be read
├── ModalityExcluded     data of a modality that is kept for the unseen test
├── NothingToScore       a task without a question, or without more than one answer
├── BaselineMissing      a baseline whose weights or package are not here
├── BadVectorsFile       a file that is not what `similis embed` writes
├── NonFiniteLoss        the loss left the numbers; names the items of the batch
└── BadRun               a run folder that cannot be resumed
"""

from collections.abc import Sequence
from pathlib import Path


class TrainingError(Exception):
    """The root of everything this house raises on purpose."""


class BadManifest(TrainingError):
    """A manifest that cannot be used; `row` counts lines of the file from 1, 0 for all of it."""

    def __init__(self, path: Path, row: int, reason: str) -> None:
        self.path, self.row, self.reason = path, row, reason
        super().__init__(path, row, reason)

    def __str__(self) -> str:
        place = f"{self.path}, line {self.row}" if self.row else str(self.path)
        return f"{place}: {self.reason}"


class TooManyUnreadable(TrainingError):
    """More items than tolerated cannot be read; `examples` names a few with the reason."""

    def __init__(self, unreadable: int, total: int, examples: Sequence[str]) -> None:
        self.unreadable, self.total, self.examples = unreadable, total, tuple(examples)
        super().__init__(unreadable, total, self.examples)

    def __str__(self) -> str:
        named = "; ".join(self.examples)
        return (
            f"{self.unreadable} of {self.total} items cannot be read: {named}. "
            "Mend the data or take the rows out of the manifest."
        )


class ModalityExcluded(TrainingError):
    """Data of a modality that training leaves out unless it is asked for."""

    def __init__(self, modality: str, items: int) -> None:
        self.modality, self.items = modality, items
        super().__init__(modality, items)

    def __str__(self) -> str:
        return (
            f"{self.items} items are {self.modality}, which is the modality the encoder is tested "
            f"on unseen. Give --allow {self.modality} to train on it, or --exclude "
            f"{self.modality} to leave them out."
        )


class NonFiniteLoss(TrainingError):
    """The loss is not a number any more; `items` are the paths of that batch."""

    def __init__(self, step: int, items: Sequence[str], written_to: Path) -> None:
        self.step, self.items, self.written_to = step, tuple(items), written_to
        super().__init__(step, self.items, written_to)

    def __str__(self) -> str:
        return (
            f"the loss is not finite at step {self.step}; the items of the batch are named in "
            f"{self.written_to}. Look at them, or lower the learning rate and resume."
        )


class BadRun(TrainingError):
    """A run folder that cannot be resumed or started in."""

    def __init__(self, folder: Path, reason: str, advice: str) -> None:
        self.folder, self.reason, self.advice = folder, reason, advice
        super().__init__(folder, reason, advice)

    def __str__(self) -> str:
        return f"cannot use the run {self.folder}: {self.reason}. {self.advice}"


class NothingToScore(TrainingError):
    """A task of retrieval that has no question, no answer, or one answer only."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.reason}: there is nothing to score"


class BaselineMissing(TrainingError):
    """A baseline whose weights or package are not here."""

    def __init__(self, name: str, package: str, reason: str) -> None:
        self.name, self.package, self.reason = name, package, reason
        super().__init__(name, package, reason)

    def __str__(self) -> str:
        return f"the baseline {self.name} needs {self.package}: {self.reason}"


class BadVectorsFile(TrainingError):
    """A file that is not what `similis embed` writes."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path} is no file of vectors: {self.reason}"
