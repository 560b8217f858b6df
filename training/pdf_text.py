"""The text of a PDF, read in a process of its own that may neither take long nor take much.

Owns: that process, its limits, what is said where it fails. Does not own: which PDFs are read, what
becomes of their text (`reports`). Run as a script it reads a PDF from stdin and writes its text to
stdout; nothing that a library may say of the content is shown.
"""

import io
import resource
import subprocess
import sys
from pathlib import Path

MAX_BYTES = 32 * 2**20
MAX_PAGES = 100
MAX_CHARACTERS = 1_000_000
MAX_MEMORY_BYTES = 2**30
TIME_S = 20


def text_of(pdf: bytes, *, time_s: int = TIME_S) -> str:
    """Return the text of a PDF, at most `MAX_PAGES` of it; empty where its pages are pictures.

    Raises ValueError with a reason where it is too large, damaged, locked, or takes too long.
    """
    if len(pdf) > MAX_BYTES:
        raise ValueError(f"the PDF has more than {MAX_BYTES} bytes")
    command = [sys.executable, "-I", str(Path(__file__)), str(time_s)]
    try:
        done = subprocess.run(
            command,
            input=pdf,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a library may complain of each of a million objects
            timeout=2 * time_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the PDF takes more than {2 * time_s} s to read") from error
    if done.returncode:
        raise ValueError("the PDF is damaged, locked, or too much work to read")
    return done.stdout.decode("utf-8")


def _write_text(time_s: int) -> None:
    """Read stdin and write stdout, within the limits."""
    resource.setrlimit(resource.RLIMIT_CPU, (time_s, time_s))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    from pypdf import PdfReader  # here: only this process needs it, and under its limits

    pages = PdfReader(io.BytesIO(sys.stdin.buffer.read())).pages
    written = 0
    for number in range(min(len(pages), MAX_PAGES)):
        text = pages[number].extract_text()[: MAX_CHARACTERS - written]
        written += len(text)
        sys.stdout.buffer.write(text.encode("utf-8", errors="replace") + b"\n\n")


if __name__ == "__main__":
    _write_text(int(sys.argv[1]))
