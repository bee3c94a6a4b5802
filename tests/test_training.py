"""Training, evaluation and checkpoints, on a handful of images."""

import pickle
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch

from models import Autoencoder
from training import (
    RECIPES,
    CheckpointError,
    Interrupted,
    TrainingError,
    UsageError,
    batches,
    choose_precision,
    evaluate,
    load_checkpoint,
    load_model,
    load_or_train,
    one_epoch,
    save_checkpoint,
    small_affine,
    train,
)

SHORT = replace(RECIPES["autoencoder"], epochs=3, batch_size=32)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", RECIPES)
def test_training_lowers_the_loss_and_leaves_a_history(few_digits, cpu, name):
    recipe = replace(RECIPES[name], epochs=4, batch_size=16)
    model, history = train(recipe, few_digits, cpu)
    assert not model.training
    assert len(history["train"]["loss"]) == 4
    assert len(history["test"]["loss"]) == 5
    assert history["test"]["loss"][-1] < history["test"]["loss"][0]
    if name.startswith("vae"):
        return  # samples its latent anew at every evaluation
    after = evaluate(model, recipe.loss, few_digits.x_clean_test, few_digits.labels_test, cpu)
    assert after["loss"] == pytest.approx(history["test"]["loss"][-1])


def test_the_same_seed_gives_the_same_weights(few_digits, cpu):
    (a, history_a), (b, history_b) = (train(SHORT, few_digits, cpu, seed=5) for _ in range(2))
    assert torch.equal(weights(a), weights(b))
    assert history_a == history_b
    other, _ = train(SHORT, few_digits, cpu, seed=6)
    assert not torch.equal(weights(a), weights(other))


def test_auto_precision_is_bfloat16_where_the_processor_has_it(cpu, monkeypatch):
    for capabilities, expected in (
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ):
        found = partial(dict, capabilities)
        monkeypatch.setattr(torch.cpu, "get_capabilities", found, raising=False)
        assert choose_precision("auto", cpu) == expected
        assert choose_precision("fp32", cpu) == torch.float32
        assert choose_precision("bf16", cpu) == torch.bfloat16


@pytest.mark.parametrize("name", ["autoencoder", "classifier", "vae2"])
def test_bfloat16_trains_to_about_the_same_loss_and_leaves_float32_weights(few_digits, cpu, name):
    recipe = replace(RECIPES[name], epochs=3, batch_size=16)
    _, usual = train(recipe, few_digits, cpu)
    model, history = train(recipe, few_digits, cpu, precision=torch.bfloat16)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    first, last = usual["test"]["loss"][0], usual["test"]["loss"][-1]
    assert history["test"]["loss"][-1] == pytest.approx(last, abs=0.2 * abs(first - last))
    assert history != usual


def test_a_training_that_diverges_says_so_and_saves_nothing(few_digits, cpu, tmp_path):
    with pytest.raises(TrainingError, match="learning rate"):
        load_or_train("autoencoder", few_digits, tmp_path, cpu, lr=1e8, epochs=2)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_explodes_without_becoming_infinite_ends_the_training(
    few_digits, cpu, monkeypatch
):
    for after, ends in ((9.0, False), (11.0, True)):
        losses = iter([0.1, after])
        monkeypatch.setattr("training.evaluate", lambda *_, losses=losses: {"loss": next(losses)})
        with pytest.raises(TrainingError, match="diverged") if ends else nullcontext():
            train(replace(SHORT, epochs=1), few_digits, cpu)


def test_batches_hold_every_image_once_with_its_own_label():
    x, labels = torch.arange(10.0), torch.arange(10)
    loader = batches(x, labels, batch_size=4, generator=torch.Generator().manual_seed(0))
    seen = [list(zip(*batch, strict=True)) for batch in loader]
    assert [len(batch) for batch in seen] == [4, 4, 2]
    pairs = [pair for batch in seen for pair in batch]
    assert all(image == label for image, label in pairs)
    assert sorted(int(label) for _, label in pairs) == list(range(10))
    assert [int(label) for _, label in pairs] != list(range(10))
    in_order = torch.cat([label for _, label in batches(x, labels, batch_size=4)])
    assert torch.equal(in_order, labels)


def test_evaluation_weighs_every_image_alike(few_digits, cpu):
    def mean_label(model, x, labels):
        return {"loss": labels.float().mean()}

    labels = torch.arange(1201)  # three batches, the last one short
    result = evaluate(torch.nn.Identity(), mean_label, torch.zeros(1201, 1), labels, cpu)
    assert result["loss"] == pytest.approx(600)


def test_augmentation_keeps_the_digit_in_place_and_changes_each_image_in_its_own_way(digits):
    torch.manual_seed(0)
    x = digits.x_clean_train[:1].repeat(200, 1, 1, 1)
    changed = small_affine(x)
    assert changed.shape == x.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    difference = (changed - x).abs().mean(dim=(1, 2, 3))
    assert difference.unique().numel() == 200
    assert difference.max() < 0.5 * x.mean() + 0.2
    assert (changed.mean(dim=0) - x[0]).abs().mean() < 0.15


def test_a_checkpoint_comes_back_with_its_history(few_digits, cpu, tmp_path, monkeypatch):
    model, history = load_or_train(
        "autoencoder", few_digits, tmp_path, cpu, epochs=1, seed=3, precision="fp32"
    )
    monkeypatch.setattr("training.train", lambda *_: pytest.fail("trained again"))
    again, history_again = load_or_train("autoencoder", few_digits, tmp_path, cpu)
    assert torch.equal(weights(model), weights(again))
    assert history == history_again
    assert torch.equal(weights(load_model("autoencoder", tmp_path)), weights(model))
    settings = load_checkpoint("autoencoder", tmp_path)[1]["settings"]
    assert settings["epochs"] == 1
    assert settings["seed"] == 3
    assert settings["training_images"] == 96
    assert settings["precision"] == "float32"
    assert settings["processes"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]


@pytest.mark.parametrize("name", ["autoencoder", "classifier_augmented", "vae2"])
def test_an_interrupted_training_resumes_to_the_same_weights(
    few_digits, cpu, tmp_path, monkeypatch, name
):
    changes = {"epochs": 4, "batch_size": 32}
    whole, history = load_or_train(name, few_digits, tmp_path / "whole", cpu, **changes)
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return one_epoch(*args)

    with monkeypatch.context() as patch:
        patch.setattr("training.one_epoch", interrupted)
        with pytest.raises(Interrupted, match=r"after epoch 2 of 4.* --resume"):
            load_or_train(name, few_digits, tmp_path, cpu, **changes)
        calls.clear()
        torch.manual_seed(99)
        resumed, history_resumed = load_or_train(name, few_digits, tmp_path, cpu, resume=True)
        assert len(calls) == 2
    assert torch.equal(weights(whole), weights(resumed))
    assert history == history_resumed


def test_training_options_never_silently_do_nothing(few_digits, cpu, tmp_path):
    load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=1)
    for given in (
        {"epochs": 2},
        {"seed": 1},
        {"lr": 0.1},
        {"batch_size": 8},
        {"precision": "fp32"},
    ):
        with pytest.raises(UsageError, match=next(iter(given)).replace("_", "-")):
            load_or_train("autoencoder", few_digits, tmp_path, cpu, **given)


def test_a_bad_checkpoint_is_named(tmp_path):
    path = tmp_path / "autoencoder.pt"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model("autoencoder", tmp_path)
    save_checkpoint(path, "classifier", RECIPES["classifier"].model(), {}, {})
    whole = path.read_bytes()
    contents = {
        "another model": whole,
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "random bytes": bytes(range(256)) * 40,
    }
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=path.name):
            load_model("autoencoder", tmp_path)
    torch.save({"name": "autoencoder", "model": {"weight": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match=path.name):
        load_model("autoencoder", tmp_path)
    torch.save(Autoencoder(), path)  # a pickled object, which might run anything
    with pytest.raises(CheckpointError, match=path.name):
        load_model("autoencoder", tmp_path)


def test_a_failing_save_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "autoencoder.pt"
    save_checkpoint(path, "autoencoder", Autoencoder(), {}, {})
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_checkpoint(path, "autoencoder", Autoencoder(), {}, {"broken": lambda: None})
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]
