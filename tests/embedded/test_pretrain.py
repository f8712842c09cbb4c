"""The recipe of the weights, on a tiny model."""

import csv
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pfedmoap.embedded import corpus, pretrain, tower
from pfedmoap.embedded.captions import vocabulary

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1},
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _losses(seed, steps):
    rows = []
    pretrain.train(TINY, seed, steps, size=32, report=rows.append, warm_up=5)
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    return [row["loss"] for row in rows]


def test_steps_lower_the_loss_and_repeat_exactly():
    losses = _losses(seed=0, steps=60)
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1
    assert _losses(seed=0, steps=3) == losses[:3]
    assert _losses(seed=1, steps=1) != losses[:1]


def test_captions_are_encoded_as_open_clip_encodes_them():
    torch.manual_seed(0)
    model = tower.build(TINY).eval()
    _, texts = corpus.batch(0, 0, 24)
    padded = torch.zeros(24, 40, dtype=torch.long)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    expected = model.encode_text(padded, normalize=True)
    torch.testing.assert_close(pretrain.Captions(model, vocabulary()).encode(texts), expected, rtol=1e-4, atol=1e-5)


def test_equal_captions_are_positives_of_one_another():
    images, texts = F.normalize(torch.randn(3, 8), dim=1), F.normalize(torch.randn(3, 8), dim=1)
    texts[1] = texts[0]
    loss = pretrain.contrastive_loss(images, texts, torch.tensor(10.0), [[1, 2], [1, 2], [1, 3]])
    logits = 10 * images @ texts.T
    target = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    by_hand = -(target * logits.log_softmax(1)).sum(1).mean() - (target * logits.T.log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(by_hand.item() / 2, rel=1e-5)


def test_the_schedule_warms_up_and_ends_at_zero():
    rates = [pretrain.learning_rate(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert rates[100] == pytest.approx(0)
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_saved_weights_are_read_back(tmp_path):
    model = pretrain.train(TINY, seed=0, steps=2, size=8, report=lambda row: None)
    tower.save(model, vocabulary(), tmp_path / "w.safetensors")
    (tmp_path / "c.json").write_text(json.dumps(TINY))
    read = tower.read(tmp_path / "w.safetensors", tmp_path / "c.json")
    assert read.logit_scale.exp().item() == pytest.approx(100, rel=1e-3)
    for key, value in model.state_dict().items():
        if key != "logit_scale":
            torch.testing.assert_close(read.state_dict()[key], value, rtol=1e-3, atol=1e-6)
    changed = (read.token_embedding.weight != tower.token_table(TINY)).any(1).nonzero().flatten()
    assert set(changed.tolist()) <= set(vocabulary().tolist())


def test_the_command_writes_weights_log_and_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "BATCH", 8)
    monkeypatch.setattr(pretrain.sets, "NAMES", ("office",))
    (tmp_path / "c.json").write_text(json.dumps(TINY))
    pretrain.main(["--steps", "2", "--config", str(tmp_path / "c.json"), "--out", str(tmp_path / "out")])
    summary = json.loads((tmp_path / "out" / "embedded_clip_figures.json").read_text())
    assert summary["steps"] == 2
    assert set(summary["sets"]) == {"office", "office-validation"}
    with (tmp_path / "out" / "embedded_clip_training.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]
    assert (tmp_path / "out" / "embedded_clip.safetensors").stat().st_size > 1000
