"""Every table of the catalogue, for who needs them all: migrations, moves to another database."""

from __future__ import annotations

from index.generation import Generation, GenerationGap
from index.models import Base
from index.space import TextSpace
from index.vector_models import Change, Part

BESIDE = (Change, Generation, GenerationGap, Part, TextSpace)  # what `models` does not define
METADATA = Base.metadata
