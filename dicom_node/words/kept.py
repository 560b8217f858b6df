"""Which text space goes with an encoder, and the copy of it that lies beside the encoder.

The configured one may be of another encoder: after an upgrade, before `similis reindex`, and on the
way back. Loads none: that is for the process that has one.
"""

import filecmp
import json
import re
import shutil
from pathlib import Path

from dicom_node.config import Text
from dicom_node.data_folder import DataFolder, keep_files
from dicom_node.words.space import folder_of

SPACE_FILES = ("checkpoint.json", "model.safetensors", "vocabulary.txt")
_SPACE_ID = re.compile(r"[0-9a-f]{16}")


def kept_space(folder: DataFolder, model_id: str) -> Path | None:
    """Return the copy of the text space that a node answered with last; it is named by its id."""
    copies = [each for each in _texts(folder, model_id).glob("*") if _SPACE_ID.fullmatch(each.name)]
    return max(copies, key=lambda each: each.stat().st_mtime_ns, default=None)


def keep_space(folder: DataFolder, model_id: str, space_id: str, source: Path) -> Path:
    """Copy a text space beside its encoder, for others and a damaged copy; return the copy.

    Raises OSError, also where the encoder is not kept: half of its folder would be taken for all.
    """
    texts = _texts(folder, model_id)
    texts.mkdir(mode=0o700, exist_ok=True)
    kept = texts / space_id
    if kept.is_dir() and not _is_copy(source, kept):
        kept.rename(kept.with_name(f"{space_id}.damaged"))
    keep_files(source, SPACE_FILES, kept)
    for other in texts.iterdir():
        if other != kept:
            shutil.rmtree(other, ignore_errors=True)
    return kept


def spaces_for(folder: DataFolder, text: Text, model_id: str) -> list[Path]:
    """Return the folders that may hold a text space of an encoder, the best first.

    One that cannot be read is among them: whoever opens it says why.
    """
    configured, kept = folder_of(text), kept_space(folder, model_id)
    may = configured is not None and encoder_of(configured) in ("", model_id)
    found = [configured if may else None, kept if text.enabled else None]
    return [each for each in found if each is not None]


def trouble_with(folder: DataFolder, text: Text, model_id: str) -> str:
    """Return why the configured text space does not answer beside an encoder; "" where it does."""
    if not text.enabled:
        return "off: `text.enabled` is false"
    configured, kept = folder_of(text), kept_space(folder, model_id)
    otherwise = f"; {kept} answers" if kept else ""
    if configured is None:
        return f"no text space ships: name one by `text.folder`{otherwise}"
    match encoder_of(configured):
        case "":
            return f"`text.folder`: {configured} holds no text space that can be read{otherwise}"
        case of if of != model_id:
            advice = "answer with that by `similis reindex`, or bind this by `similis train bind`"
            return f"{configured} is of encoder {of}: {advice}{otherwise}"
    return ""


def encoder_of(space: Path) -> str:
    """Return the model id of the encoder that a text space is of; "" where it cannot be read."""
    try:
        return str(json.loads((space / "checkpoint.json").read_bytes())["image_model_id"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _is_copy(source: Path, kept: Path) -> bool:
    same, _, _ = filecmp.cmpfiles(source, kept, SPACE_FILES, shallow=False)
    return len(same) == len(SPACE_FILES)


def _texts(folder: DataFolder, model_id: str) -> Path:
    return folder.encoders / model_id / "text"
