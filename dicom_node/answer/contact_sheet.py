"""The contact sheet: query and cases side by side, for people.

Owns what is written beside which picture, and the layout. Does not own decoding (the worker's) or
the objects that carry the pages (`secondary_capture`, `pdf`). A case is named by its pseudonym.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

from dicom_node.answer import codes
from dicom_node.answer.evidence import QueryEvidence, text_of
from dicom_node.answer.tree import DISCLAIMER, Algorithm, age_band, case_name, warnings_about
from dicom_node.receive.worker import Thumbnail
from index.parts import PartPlace
from index.records import Case, Ranking

MAX_CASES = 20  # on a sheet; the report lists all
COLUMNS, ROWS = 4, 3
WIDTH_PX, SIDE_PX = 1024, 246
_GAP_PX, _BANNER_PX, _LINE_PX, _HEAD_PX = 8, 18, 17, 46
_TITLE_FONT_PX, _FONT_PX, _BANNER_FONT_PX = 18, 14, 12
_LINES, _BELOW_PX = 3, 3
_TILE_PX = _BANNER_PX + SIDE_PX + _LINES * _LINE_PX + _BELOW_PX  # three of them make 1024

_PAPER, _INK, _NO_PICTURE = (24, 24, 28), (235, 235, 235), (60, 60, 64)
_WARNING = (255, 190, 90)
_OWN, _OTHER = (24, 96, 160), (150, 70, 0)

QUERY = "QUERY"
NOT_THIS_PATIENT = "REFERENCE CASE - NOT THIS PATIENT"  # Pillow's font has no dash

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture to be: of which instance, whose, and what is written above and below it.

    `part` is the frame that is shown and the box that is drawn, None for the frame in the middle.
    """

    sop_instance_uid: str
    part: PartPlace | None
    of_another: bool
    banner: str
    lines: tuple[str, ...]


_Matched = tuple[str, PartPlace | None]  # SOP Instance UID of a query image, and which part


@dataclass(slots=True)
class _Page:
    queries: list[_Matched] = field(default_factory=list)
    cases: list[tuple[Case, _Matched]] = field(default_factory=list)  # with what they match

    def has_room(self, source: _Matched) -> bool:
        queries = len({*self.queries, source})
        return queries + len(self.cases) < COLUMNS * ROWS

    def add(self, case: Case, source: _Matched) -> None:
        if source not in self.queries:
            self.queries.append(source)
        self.cases.append((case, source))


def contact_sheet(
    query: QueryEvidence,
    ranking: Ranking,
    algorithm: Algorithm,
    *,
    secret: bytes,
    picture: Callable[[Tile], Thumbnail],
) -> list[Image.Image]:
    """Return the pages, `WIDTH_PX` wide and as high as needed, at most as high; none without cases.

    Every page has the query images that its cases match. `picture` gives `SIDE_PX` by `SIDE_PX`.
    """
    pages = [list(_tiles(page, query, secret)) for page in _paged(query, ranking)]
    heads = _heads(ranking, algorithm, len(pages))
    return [
        _drawn(head, [(tile, picture(tile)) for tile in page])
        for head, page in zip(heads, pages, strict=True)
    ]


def _paged(query: QueryEvidence, ranking: Ranking) -> list[_Page]:
    """Deal the cases out in order of rank."""
    pages: list[_Page] = []
    for case in ranking.cases[:MAX_CASES]:
        matched = query.source(case)
        source = matched.image.sop_instance_uid, matched.part
        if not pages or not pages[-1].has_room(source):
            pages.append(_Page())
        pages[-1].add(case, source)
    return pages


def _tiles(page: _Page, query: QueryEvidence, secret: bytes) -> Iterator[Tile]:
    several = len(page.queries) > 1
    headers = {image.sop_instance_uid: image.header for image in query.key_images}
    for number, (uid, part) in enumerate(page.queries, 1):
        modality = codes.modality(text_of(headers[uid], "Modality")).value
        banner = f"{QUERY} {number}" if several else QUERY
        yield Tile(uid, part, False, banner, (modality, "this patient"))
    for case, source in page.cases:
        matched = f"like {QUERY.lower()} {page.queries.index(source) + 1}"
        yield Tile(
            case.sop_instance_uid,
            case.case_part,
            True,
            NOT_THIS_PATIENT,
            (
                f"#{case.rank}   score {case.score:.3f}   {codes.modality(case.modality).value}",
                age_band(case.patient_age) or "age not known",
                f"case {case_name(case, secret)}" + (f", {matched}" if several else ""),
            ),
        )


def _heads(ranking: Ranking, algorithm: Algorithm, pages: int) -> Iterator[tuple[str, str]]:
    """Yield title and small print of every page."""
    shown = min(len(ranking.cases), MAX_CASES)
    small = " ".join([DISCLAIMER, *warnings_about(ranking, algorithm)])
    for number in range(1, pages + 1):
        page = f", page {number} of {pages}" if pages > 1 else ""
        yield f"Similar cases (AI): {shown} of {len(ranking.cases)} studies found{page}", small


def _drawn(head: tuple[str, str], tiles: Sequence[tuple[Tile, Thumbnail]]) -> Image.Image:
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (WIDTH_PX, _HEAD_PX + rows * (_TILE_PX + _GAP_PX)), _PAPER)
    pen = ImageDraw.Draw(page)
    title, small = head
    pen.text((_GAP_PX, 4), title, fill=_INK, font=ImageFont.load_default(_TITLE_FONT_PX))
    _write(pen, (_GAP_PX, 26), small, WIDTH_PX - 2 * _GAP_PX, _WARNING)
    for number, (tile, thumbnail) in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        left = _GAP_PX + column * (SIDE_PX + _GAP_PX)
        _draw(page, (left, _HEAD_PX + row * (_TILE_PX + _GAP_PX)), tile, thumbnail)
    return page


def _draw(page: Image.Image, corner: tuple[int, int], tile: Tile, thumbnail: Thumbnail) -> None:
    left, top = corner
    pen = ImageDraw.Draw(page)
    colour = _OTHER if tile.of_another else _OWN
    pen.rectangle((left, top, left + SIDE_PX - 1, top + _TILE_PX - 1), outline=colour)
    pen.rectangle((left, top, left + SIDE_PX - 1, top + _BANNER_PX - 1), fill=colour)
    middle = (left + SIDE_PX // 2, top + _BANNER_PX // 2)
    banner = ImageFont.load_default(_BANNER_FONT_PX)
    pen.text(middle, tile.banner, fill="white", font=banner, anchor="mm")
    top += _BANNER_PX
    if thumbnail.pixels:
        picture = Image.frombytes("RGB", (SIDE_PX, SIDE_PX), thumbnail.pixels)
        page.paste(picture, (left, top))
    else:
        pen.rectangle((left, top, left + SIDE_PX - 1, top + SIDE_PX - 1), fill=_NO_PICTURE)
        _write(pen, (left + _GAP_PX, top + SIDE_PX // 2 - _LINE_PX), "Not shown:", SIDE_PX, _INK)
        room = SIDE_PX - 2 * _GAP_PX
        _write(pen, (left + _GAP_PX, top + SIDE_PX // 2), thumbnail.reason, room, _INK)
    top += SIDE_PX
    for number, line in enumerate(tile.lines):
        place = (left + _GAP_PX, top + number * _LINE_PX)
        _write(pen, place, line, SIDE_PX - 2 * _GAP_PX, _INK)


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    width_px: int,
    colour: tuple[int, int, int],
) -> None:
    """Write one line, cut to the width."""
    font: Font = ImageFont.load_default(_FONT_PX)
    while text and font.getlength(text) > width_px:
        text = text[:-1]
    pen.text(place, text, fill=colour, font=font)
