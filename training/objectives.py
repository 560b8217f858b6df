"""A method as one module: a batch of views in, the loss and its terms out.

Owns: `MaskedAutoencoder`, `Distilled`, `SimDino` (which `JOINT` is too), which encoder of theirs is
kept. Does not own: the losses themselves (`mae`, `simdino`, `distill`), the optimiser (`loop`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from encoder.model import Encoder
from training.batches import Batch, Tokens
from training.config import Method, TrainConfig
from training.distill import Distiller
from training.mae import Decoder, hide, restoration_loss, take
from training.simdino import Head, alignment, expansion, follow

Terms = dict[str, Tensor]


class Objective(nn.Module):
    """What the loop trains. `kept` is the encoder that is saved, `pooled` its last vectors."""

    student: Encoder
    pooled: Tensor | None = None

    @property
    def kept(self) -> Encoder:
        """The encoder that goes into the checkpoint."""
        return self.student

    def advance(self, momentum: float) -> None:
        """Do what follows a step of the optimiser."""


class MaskedAutoencoder(Objective):
    """Encode what is shown, restore what is hidden."""

    def __init__(self, encoder: Encoder, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.student = encoder
        self.decoder = Decoder(
            encoder.config, width=config.decoder_width, depth=config.decoder_depth
        )

    def forward(self, batch: Batch) -> Terms:
        """Return `loss`: the error of the hidden patches, every value of them counting the same."""
        views: list[Tensor] = []
        errors: list[Tensor] = []
        weights: list[int] = []
        for tokens in batch.globals[0]:
            still = tokens.patches.shape[-1] == 3 * self.decoder.frame_values
            part = self.config.hidden_still if still else self.config.hidden_clip
            pooled, error = masked(self.student, self.decoder, (tokens,), part)
            views.append(pooled)
            errors.append(error)
            weights.append(round(tokens.patches.numel() * part))
        self.pooled = torch.cat(views).detach().float()
        shares = torch.tensor(weights, device=errors[0].device) / sum(weights)
        return {"loss": torch.stack(errors) @ shares}


class Distilled(Objective):
    """Say of a view what a network trained on ImageNet says of it."""

    def __init__(self, encoder: Encoder, config: TrainConfig) -> None:
        super().__init__()
        self.student = encoder
        self.distiller = Distiller(encoder, config)

    def forward(self, batch: Batch) -> Terms:
        """Return `loss`: the mean squared distance to the teacher's unit features."""
        shapes = batch.globals[0]
        pooled = [pooled_outputs(self.student, (tokens,)) for tokens in shapes]
        self.pooled = torch.cat(pooled).detach().float()
        errors = [self.distiller(*pair) for pair in zip(pooled, shapes, strict=True)]
        return {"loss": torch.cat(errors).mean()}


class SimDino(Objective):
    """Student and teacher; in `JOINT` the student's global views lose tokens and restore them."""

    def __init__(self, encoder: Encoder, teacher: Encoder, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.student, self.teacher = encoder, teacher
        width = 2 * encoder.config.width  # CLS and mean
        sizes = {"hidden": config.head_hidden, "out": config.head_width}
        self.head, self.teacher_head = Head(width, **sizes), Head(width, **sizes)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher_head.load_state_dict(self.head.state_dict())
        self.teacher.requires_grad_(False)
        self.teacher_head.requires_grad_(False)
        if config.method is Method.JOINT:
            self.decoder = Decoder(
                encoder.config, width=config.decoder_width, depth=config.decoder_depth
            )

    @property
    def kept(self) -> Encoder:
        """The teacher: its average is the better of the two."""
        return self.teacher

    def advance(self, momentum: float) -> None:
        """Let the teacher follow the student."""
        follow(self.teacher, self.student, momentum)
        follow(self.teacher_head, self.head, momentum)

    def forward(self, batch: Batch) -> Terms:
        """Return `loss`, `alignment`, `expansion` and, in `JOINT`, `restoration`."""
        config = self.config
        with torch.no_grad():
            pooled = self._pooled(self.teacher, batch.globals)
            self.pooled = pooled[0].float()
            teacher = torch.stack([self.teacher_head(view) for view in pooled])
        restoration = None
        if config.method is Method.JOINT:
            wide, restoration = self._masked(batch.globals)
        else:
            wide = self._pooled(self.student, batch.globals)
        views = [*wide, *self._pooled(self.student, batch.locals)]
        student = torch.stack([self.head(view) for view in views])
        aligned = alignment(teacher, student)
        spread = expansion(teacher, student, config.eps)
        loss = -config.alignment * aligned - spread
        terms = {"alignment": aligned.detach(), "expansion": spread.detach()}
        if restoration is not None:
            loss = loss + config.mae_weight * restoration
            terms["restoration"] = restoration.detach()
        return {"loss": loss, **terms}

    def _masked(self, views: Sequence[Sequence[Tokens]]) -> tuple[list[Tensor], Tensor]:
        """As `_pooled` from a part of the tokens, and the error of restoring the others."""
        shapes = [
            masked(self.student, self.decoder, shape, self.config.hidden_joint)
            for shape in zip(*views, strict=True)
        ]
        errors = torch.stack([error for _, error in shapes])
        return _by_view([pooled for pooled, _ in shapes], len(views)), errors.mean()

    @staticmethod
    def _pooled(encoder: Encoder, views: Sequence[Sequence[Tokens]]) -> list[Tensor]:
        """Encode all views of a shape at once; return (N, 2 D) of each view, shapes in order."""
        shapes = [pooled_outputs(encoder, shape) for shape in zip(*views, strict=True)]
        return _by_view(shapes, len(views))


def pooled_outputs(encoder: Encoder, shape: Sequence[Tokens]) -> Tensor:
    """Encode the views of one shape at once; return CLS and mean (V N, 2 D)."""
    cls, tokens = encoder(*joined(shape, encoder.prefix.device))
    return torch.cat([cls, tokens.mean(dim=1)], dim=1)


def joined(shape: Sequence[Tokens], device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack the views of one shape: patches (V N, L, P) as 0..1 and places (V N, L, 3)."""
    patches = torch.cat([tokens.patches for tokens in shape]).to(device, non_blocking=True)
    places = torch.cat([tokens.places for tokens in shape]).to(device, non_blocking=True)
    return patches.float() / 255, places


def masked(
    encoder: Encoder, decoder: Decoder, shape: Sequence[Tokens], part: float
) -> tuple[Tensor, Tensor]:
    """Hide a part of the views of one shape; return CLS and mean (V N, 2 D), and the error."""
    patches, places = joined(shape, encoder.prefix.device)
    draws = torch.cat([tokens.draws for tokens in shape]).to(patches.device)
    shown, hidden = hide(draws, part)
    cls, encoded = encoder(take(patches, shown), take(places, shown))
    restored = decoder(encoded, take(places, shown), take(places, hidden), patches.shape[-1])
    pooled = torch.cat([cls, encoded.mean(dim=1)], dim=1)
    return pooled, restoration_loss(restored, take(patches, hidden))


def _by_view(shapes: Sequence[Tensor], views: int) -> list[Tensor]:
    """Turn (V N, D) of every shape into (N of all shapes, D) of every view."""
    chunks = [shape.chunk(views) for shape in shapes]
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]


def objective(encoder: Encoder, config: TrainConfig) -> Objective:
    """Build the module of a method around an encoder."""
    if config.method is Method.MAE:
        return MaskedAutoencoder(encoder, config)
    if config.method is Method.DISTILL:
        return Distilled(encoder, config)
    return SimDino(encoder, Encoder(encoder.config), config)
