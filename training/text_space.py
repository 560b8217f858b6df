"""From images and words to a text space: the stages in their order, each taken up where it stopped.

Owns: the folder of a binding, what each stage is given. Does not own: the stages (`adapt`, `bind`,
`unify`), what is measured at the end (`calibrate`), the format (`encoder.space_checkpoint`).

    vectors-….npz       the images, embedded once
    adapt/ bind/ unify/ a stage each, as `training.stage` keeps it
    teachers/…          each modality's own text head as a text space, to compare the student with
    space/              the text space
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from encoder import space_checkpoint
from encoder.abbreviations import write_out
from encoder.space_checkpoint import SpaceCheckpoint, SpaceDescription
from encoder.text import TextTower, build
from encoder.text_checkpoint import Storage, TextCheckpoint, stored, text_model_id
from encoder.text_embedder import TextEmbedder
from encoder.wordpiece import MAX_CHARACTERS, Tokeniser
from training import lowrank
from training.adapt import Adaptation, Reader, SentencePair, found_first, synonyms
from training.bind import Binding, Sentences
from training.bind_config import BindConfig
from training.calibrate import measure
from training.learned_words import learned_words
from training.loop import Watcher
from training.pairs import Pairs
from training.stage import Stage, train_stage
from training.terms import terms
from training.unify import Unifying

SPACE, TEACHERS = "space", "teachers"
FOREIGN_FILE = "foreign_sentences.txt"
NAME = "similis-words"
READ_AT_ONCE = 2048  # sentences, between two moves of the bar


@dataclass(frozen=True, slots=True)
class Materials:
    """What a binding is made of: images and captions, other pairs of sentences, a first tower."""

    pairs: Pairs
    others: tuple[SentencePair, ...]
    tower: TextCheckpoint
    image_model_id: str


# Returns who watches a stage: its name, its folder, its steps.
Watching = Callable[[str, Path, int], Watcher]
# Returns who is told that more sentences were read: what they are read for, how many they are.
Reading = Callable[[str, int], Callable[[int], None]]


def train_space(
    materials: Materials,
    config: BindConfig,
    folder: Path,
    watching: Watching,
    reading: Reading = lambda *_: lambda _: None,
) -> SpaceCheckpoint | None:
    """Go through the stages and write the space and the teachers; None where a watcher stopped it.

    Raises as `stage.train_stage`.
    """
    course = _Course(materials, config, folder, watching, reading)
    if (adapted := course.adapted()) is None:
        return None
    sentences = course.sentences(adapted)
    bound = Binding(materials.pairs, sentences, config)
    if not course.run("bind", bound, config.bind_steps, config.bind_lr):
        return None
    rank = config.unify_rank if config.distil else 0
    tower = lowrank.lower(
        build(materials.tower.description.config, adapted),
        rank=rank,
        alpha=config.alpha,
        seed=config.seed + 1,
    )
    student = Unifying(bound, course.reader(tower), materials.pairs, sentences, config)
    if not course.run("unify", student, config.unify_steps, config.unify_lr):
        return None
    heads = course.image_heads(bound, student)
    taught = course.read(adapted)
    for row, modality in enumerate(materials.pairs.modalities):
        projection = bound.texts.weight[row].detach(), bound.texts.bias[row].detach()
        teacher = course.space(f"{NAME}-{modality}", taught, projection, heads)
        space_checkpoint.save(folder / TEACHERS / modality, teacher)
    projection = student.projection.weight.detach(), student.projection.bias.detach()
    space = course.space(NAME, course.read(lowrank.merged(tower)), projection, heads)
    space_checkpoint.save(folder / SPACE, space)
    return space


@dataclass(frozen=True, slots=True)
class _Read:
    """A tower as it is stored, and its rows (S, W) of all captions and of foreign sentences."""

    text: TextCheckpoint
    captions: Tensor
    foreign: Tensor


@dataclass(frozen=True, slots=True)
class _ImageHeads:
    """The image heads stacked, and the train images as they and the one for all others see them."""

    weight: Tensor
    bias: Tensor
    placed: Tensor
    other: Tensor


@dataclass(slots=True)
class _Course:
    """What all stages share; `metrics` gathers what they reached."""

    materials: Materials
    config: BindConfig
    folder: Path
    watching: Watching
    reading: Reading
    metrics: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, stage: Stage, steps: int, lr: float) -> bool:
        """Train a stage; say whether it came to its end."""
        materials = self.materials
        others = hashlib.sha256(repr(materials.others).encode()).hexdigest()[:16]
        data = f"{materials.pairs.fingerprint} {others} {text_model_id(materials.tower)}"
        folder = self.folder / name
        watcher = self.watching(name, folder, steps)
        done = train_stage(stage, self.config, folder, watcher, steps=steps, lr=lr, data=data)
        self.metrics.update({f"{name}_{key}": value for key, value in done.metrics.items()})
        return done.step == steps

    def reader(self, tower: TextTower) -> Reader:
        """Let a tower that may learn read sentences."""
        words = self.materials.tower.vocabulary
        tokeniser = Tokeniser(words, tokens=tower.config.tokens)
        return Reader(tower, tokeniser, bf16=self.config.bf16)

    def adapted(self) -> dict[str, Tensor] | None:
        """Run stage 0 and return the tower's tensors, its change merged into them."""
        config, first = self.config, self.materials.tower
        tower = lowrank.lower(
            build(first.description.config, first.network),
            rank=config.rank,
            alpha=config.alpha,
            seed=config.seed,
        )
        reader = self.reader(tower)
        said = synonyms(self.materials.pairs, self.materials.others, config)
        self.metrics["synonyms_r1_before"] = found_first(reader, said.held_out)
        stage = Adaptation(reader, said.learned, config)
        if not self.run("adapt", stage, config.adapt_steps, config.adapt_lr):
            return None
        self.metrics["synonyms_r1"] = found_first(reader, said.held_out)
        return lowrank.merged(tower)

    def sentences(self, tower: dict[str, Tensor]) -> Sentences:
        """Read captions, terms and every second foreign sentence, as the space will read them."""
        reader = self.reader(build(self.materials.tower.description.config, tower))
        captions = self._captions()
        names = [write_out(name) for term in terms() for name in term.names]
        readable = [name for name in names if reader.knows(name)]
        draws = torch.Generator().manual_seed(self.config.seed)
        chosen = torch.randperm(len(readable), generator=draws)[: self.config.terms].tolist()
        foreign = [write_out(line) for line in foreign_sentences()[::2]]
        foreign = [line for line in foreign if reader.knows(line)]
        texts = (*captions, *(readable[row] for row in chosen), *foreign)
        rows = reader.all_vectors(texts, self.reading("sentences", len(texts)))
        return Sentences(texts, rows, len(captions), len(foreign))

    def _captions(self) -> list[str]:
        """Return every caption as a text space reads it."""
        return [write_out(each.text)[:MAX_CHARACTERS] for each in self.materials.pairs.captions]

    def read(self, tower: dict[str, Tensor]) -> _Read:
        """Store a tower, and let it read what is measured with."""
        first = self.materials.tower
        text = TextCheckpoint(first.description, stored(tower, Storage.INT8), first.vocabulary)
        captions = self._captions()
        foreign = [write_out(line) for line in foreign_sentences()[1::2]]
        every, embedder = [*captions, *foreign], TextEmbedder(text, device="cpu")
        advance = self.reading("sentences, as they are stored", len(every))
        rows = torch.empty(len(every), embedder.dim)
        for start in range(0, len(every), READ_AT_ONCE):
            part = every[start : start + READ_AT_ONCE]
            rows[start : start + len(part)] = torch.from_numpy(embedder.embed(part))
            advance(len(part))
        return _Read(text, rows[: len(captions)], rows[len(captions) :])

    @torch.no_grad()
    def image_heads(self, bound: Binding, student: Unifying) -> _ImageHeads:
        """Place every train image by the head of its modality, and by the one for all others."""
        pairs = self.materials.pairs
        own = torch.from_numpy(pairs.modality_of), torch.arange(len(pairs.paths))
        return _ImageHeads(
            weight=torch.cat([bound.images.weight, student.other.weight]),
            bias=torch.cat([bound.images.bias, student.other.bias]),
            placed=bound.images(pairs.vectors)[own],
            other=student.other(pairs.vectors)[0],
        )

    def space(
        self, name: str, read: _Read, projection: tuple[Tensor, Tensor], heads: _ImageHeads
    ) -> SpaceCheckpoint:
        """Put a text encoder and the image heads together, and measure what they give."""
        config, materials, (weight, bias) = self.config, self.materials, projection
        said, foreign = (
            functional.normalize(rows @ weight.T + bias, dim=1)
            for rows in (read.captions, read.foreign)
        )
        found = measure(materials.pairs, heads.placed, heads.other, said, foreign, config)
        parted = {"captions_inside": found.inside, "foreign_outside": found.outside}
        description = SpaceDescription(
            format=space_checkpoint.FORMAT,
            name=name,
            text=read.text.description,
            image_model_id=materials.image_model_id,
            image_dim=materials.pairs.vectors.shape[1],
            dim=config.dim,
            modalities=materials.pairs.modalities,
            floor=found.floor,
            near=found.near,
            temperature=found.temperature,
            words=learned_words(materials.pairs),
            seed=config.seed,
            metrics={**self.metrics, **parted},
        )
        tensors = {
            "projection.weight": weight,
            "projection.bias": bias,
            "heads.weight": heads.weight,
            "heads.bias": heads.bias,
            "gaps": found.gaps,
            "knots": found.knots,
        }
        return SpaceCheckpoint(description, read.text, tensors)


def foreign_sentences() -> tuple[str, ...]:
    """Return sentences that no image of the usual kinds fits, every second one for measuring."""
    text = files("training").joinpath(FOREIGN_FILE).read_text(encoding="utf-8")
    return tuple(text.splitlines())
