"""What the encoder raises.

Owns: the errors of this house, each with its facts as attributes and advice in its text.
Does not own: what a caller does about them (quarantine a series, answer a request).
"""

from pathlib import Path


class EncoderError(Exception):
    """The root of everything the encoder raises on purpose."""


class UnreadableImage(EncoderError):
    """The pixels of one instance cannot be used; its text holds no patient data."""

    def __init__(self, sop_instance_uid: str, reason: str) -> None:
        self.sop_instance_uid = sop_instance_uid
        self.reason = " ".join(reason.split())
        super().__init__(sop_instance_uid, self.reason)  # args rebuild it in another process

    def __str__(self) -> str:
        return f"cannot read the pixels of SOP instance {self.sop_instance_uid}: {self.reason}"


class BadCheckpoint(EncoderError):
    """A checkpoint folder that cannot be trusted or understood."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        self.path = path
        self.reason = reason
        self.advice = advice
        super().__init__(path, reason, advice)

    def __str__(self) -> str:
        return f"cannot use the checkpoint {self.path}: {self.reason}. {self.advice}"


class BadText(EncoderError):
    """A sentence that cannot be embedded; its text never repeats it, as it may name a patient."""

    def __init__(self, reason: str, advice: str) -> None:
        self.reason = reason
        self.advice = advice
        super().__init__(reason, advice)

    def __str__(self) -> str:
        return f"cannot use the text: {self.reason}. {self.advice}"
