"""A contact sheet of what the encoder sees: every clip as it is normalised, with a caption.

Owns: reading the clips of some series one after the other, choosing frames, the layout, the words.
Does not own: where the picture goes. Captions hold no names, dates or descriptions; what is burnt
into the pixels is shown, as the encoder sees it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.uid import UID

from encoder.clip import Clip, Kind, Unit
from encoder.config import EncoderConfig
from encoder.errors import UnreadableImage
from encoder.headers import quiet
from encoder.normalise import normalise
from encoder.series import LeftOut, assemble
from encoder.slices import Group
from encoder.volume import read_clip

MAX_CLIPS = 200  # on a sheet; what is beyond is only counted
FRAMES_A_ROW, MAX_FRAMES = 8, 16  # of one clip, evenly from its first to its last
_MAX_LINES = 60  # of what was left out
_GAP_PX, _LINE_PX, _FONT_PX = 8, 14, 11
_PAPER, _INK, _WARNING = (48, 48, 52), (225, 225, 225), (255, 190, 90)
_NO_MODALITY = "?"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Seen:
    """One clip on the sheet: what was read, and in which size it goes to the network."""

    number: int
    modality: str
    sop_class: str
    kind: str
    unit: str
    frames: int
    seen: tuple[int, int, int]  # T, H, W
    spacing: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The picture as PNG, empty where there is no clip, and what it says in words.

    `more` counts the clips that are not drawn.
    """

    png: bytes
    clips: tuple[Seen, ...]
    left_out: tuple[LeftOut, ...]
    more: int


@dataclass(frozen=True, slots=True)
class _Block:
    caption: tuple[str, ...]  # lines that fit above the tiles
    tiles: tuple[Image.Image, ...]

    def size(self) -> tuple[int, int]:
        """Width and height with the gap that follows."""
        down = -(-len(self.tiles) // FRAMES_A_ROW)
        lines_px = len(self.caption) * _LINE_PX
        height = down * (self.tiles[0].height + _GAP_PX) + lines_px + _GAP_PX
        return _across_px(self.tiles) + _GAP_PX, height


def _across_px(tiles: Sequence[Image.Image]) -> int:
    """Return the width of a row of tiles."""
    return min(len(tiles), FRAMES_A_ROW) * (tiles[0].width + _GAP_PX) - _GAP_PX


def _block(seen: Seen, tiles: tuple[Image.Image, ...]) -> _Block:
    font, width_px = ImageFont.load_default(_FONT_PX), _across_px(tiles)
    lines = (line for text in _caption(seen) for line in _wrapped(text, width_px, font))
    return _Block(tuple(lines), tiles)


def draw_sheet(series: Sequence[Sequence[Path]], config: EncoderConfig) -> Sheet:
    """Draw the clips of some series, each given as its files.

    Raises OSError where a file cannot be opened.
    """
    assemblies = [assemble(paths) for paths in series]
    groups = [group for assembly in assemblies for group in assembly.groups]
    left_out = [each for a in assemblies for each in (*a.unreadable, *a.skipped)]
    clips: list[Seen] = []
    blocks: list[_Block] = []
    for group in groups[:MAX_CLIPS]:
        try:
            clip = read_clip(group, config.extent(group.kind))
        except UnreadableImage as error:
            left_out.append(LeftOut(error.sop_instance_uid, error.reason))
            continue
        normalised = normalise(clip, config.extent(clip.kind))
        clips.append(_describe(len(clips) + 1, group, clip, normalised))
        blocks.append(_block(clips[-1], _tiles(normalised.array)))
    more = max(len(groups) - MAX_CLIPS, 0)
    lines = [f"left out: {each.sop_instance_uid}: {each.reason}" for each in left_out]
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES:] = [f"and {len(lines) - _MAX_LINES} more left out"]
    if more:
        lines.insert(0, f"{more} more clips are not drawn")
    return Sheet(_png(blocks, lines) if blocks else b"", tuple(clips), tuple(left_out), more)


def _describe(number: int, group: Group, clip: Clip, normalised: Clip) -> Seen:
    with quiet():
        header = dcmread(
            group.frames[0].path,
            stop_before_pixels=True,
            specific_tags=["Modality", "SOPClassUID"],
        )
    modality = re.sub(r"[^A-Z0-9_]", "", str(header.get("Modality") or "").upper())[:16]
    frames, height, width = normalised.array.shape[1:]
    return Seen(
        number=number,
        modality=modality or _NO_MODALITY,
        sop_class=UID(header.get("SOPClassUID", "")).name.removesuffix(" Storage"),
        kind=clip.kind,
        unit=clip.unit,
        frames=len(group.frames) if clip.kind is Kind.VOLUME else clip.array.shape[1],
        seen=(frames, height, width),
        spacing=_spacing(normalised),
        sources=clip.sources,
    )


def _spacing(clip: Clip) -> str:
    """Say how far apart pixels and frames are in what the network sees."""
    step, row_mm, _ = clip.spacing
    pixel = f"{row_mm * 1000:.3g} um" if row_mm < 0.01 else f"{row_mm:.3g} mm"
    unit = "mm" if clip.kind is Kind.VOLUME else "s"
    return f"{pixel} a pixel" + (f", {step:.3g} {unit} a frame" if step > 0 else "")


_MEANINGS: dict[str, str] = {Unit.HOUNSFIELD: "hu (R lung, G soft, B bone)"}


def _caption(seen: Seen) -> tuple[str, ...]:
    frames = "1 frame" if seen.frames == 1 else f"{seen.frames} frames seen as {seen.seen[0]}"
    if seen.seen[0] > MAX_FRAMES:
        frames += f", {MAX_FRAMES} drawn"
    return (
        f"{seen.number}  {seen.modality} {seen.kind}, {_MEANINGS.get(seen.unit, seen.unit)}",
        seen.sop_class,
        seen.spacing if seen.frames == 1 else f"{frames}, {seen.spacing}",
    )


def _tiles(array: NDArray[np.float32]) -> tuple[Image.Image, ...]:
    """Turn frames of (3, T, H, W) in 0..1 into pictures."""
    count = array.shape[1]
    chosen = np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(int)
    bytes_ = (array[:, chosen] * 255).round().astype(np.uint8)
    return tuple(Image.fromarray(frame) for frame in np.moveaxis(bytes_, 0, -1))


def _png(blocks: Sequence[_Block], lines: Sequence[str]) -> bytes:
    """Set blocks side by side as long as they fit, the lines below."""
    font = ImageFont.load_default(_FONT_PX)
    width = FRAMES_A_ROW * max(block.tiles[0].width + _GAP_PX for block in blocks) + _GAP_PX
    placed = list(_placed(blocks, width))
    foot = max(top + block.size()[1] for block, _, top in placed)
    sheet = Image.new("RGB", (width, foot + len(lines) * _LINE_PX + _GAP_PX), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for block, left, top in placed:
        _draw(sheet, block, (left, top), font)
    for number, line in enumerate(lines):
        text = _fitted(line, width - 2 * _GAP_PX, font)
        pen.text((_GAP_PX, foot + number * _LINE_PX), text, fill=_WARNING, font=font)
    with BytesIO() as file:
        sheet.save(file, "PNG")
        return file.getvalue()


def _placed(blocks: Sequence[_Block], width: int) -> Iterator[tuple[_Block, int, int]]:
    """Give each block the left and top of its corner."""
    left, top, tallest = _GAP_PX, _GAP_PX, 0
    for block in blocks:
        across, down = block.size()
        if left + across > width and left > _GAP_PX:
            left, top, tallest = _GAP_PX, top + tallest, 0
        yield block, left, top
        left, tallest = left + across, max(tallest, down)


def _draw(sheet: Image.Image, block: _Block, corner: tuple[int, int], font: Font) -> None:
    left, top = corner
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(block.caption):
        pen.text((left, top + number * _LINE_PX), line, fill=_INK, font=font)
    top += len(block.caption) * _LINE_PX + _GAP_PX // 2
    for number, tile in enumerate(block.tiles):
        row, column = divmod(number, FRAMES_A_ROW)
        place = left + column * (tile.width + _GAP_PX), top + row * (tile.height + _GAP_PX)
        sheet.paste(tile, place)


def _wrapped(text: str, width_px: int, font: Font) -> list[str]:
    """Break a text at its spaces so that every line fits; a word that does not is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(_fitted(word, width_px, font))
    return lines


def _fitted(text: str, width_px: int, font: Font) -> str:
    """Cut a line to the width."""
    text = text[:400]
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text + "…"
