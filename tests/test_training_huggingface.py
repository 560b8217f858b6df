"""Vision Transformers of Hugging Face: tiny random ones, written here and read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder.clip import Clip, Kind, Unit
from training.baselines import frames_of, method
from training.errors import BaselineMissing

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


def write_model(folder: Path, kind: str) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, **SIZES)
    network = transformers.AutoModel.from_config(config)
    network.save_pretrained(folder)
    return network.eval()


def cine() -> Clip:
    array = np.random.default_rng(0).random((1, 16, 32, 32), dtype=np.float32)
    return Clip(array, (0.1, 1.0, 1.0), Kind.CINE, Unit.STORED, None, ())


@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov2_with_registers"])
def test_the_vector_is_the_mean_cls_output_of_the_frames(tmp_path: Path, kind: str) -> None:
    network = write_model(tmp_path, kind)
    encoder = method(f"hf:{tmp_path}", device="cpu")

    (found,) = encoder.embed([cine()])

    torch = pytest.importorskip("torch")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (torch.from_numpy(frames_of(cine(), 32)) - mean[:, None, None]) / std[:, None, None]
    with torch.inference_mode():
        expected = network(images).last_hidden_state[:, 0].mean(dim=0)
    assert found == pytest.approx(expected.numpy(), abs=1e-4)
    assert encoder.name == tmp_path.name


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "vit")
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")

    with pytest.raises(BaselineMissing, match="weights that fit its config"):
        method(f"hf:{tmp_path}", device="cpu")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "No such file"),
        ("{", "needs config.json"),
        ("[]", "it says None"),
        ('{"model_type": "bert"}', "it says 'bert'"),
        (json.dumps({"model_type": "vit", "auto_map": {"AutoModel": "evil.Model"}}), "weights"),
    ],
)
def test_another_folder_is_refused_with_what_it_lacks(
    tmp_path: Path, config: str | None, reason: str
) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "model.safetensors").write_bytes(b"")
    if config is not None:
        (tmp_path / "config.json").write_text(config)

    with pytest.raises(BaselineMissing, match=reason):
        method(f"hf:{tmp_path}", device="cpu")
