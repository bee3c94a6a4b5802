"""Models that are loaded, trained, continued after an interruption, or found to be broken."""

import signal
from dataclasses import replace

import pytest
import torch
from conftest import untrained
from torch import nn

from common import pretrained
from common.pretrained import check_training, load_model, load_or_train, read_checkpoint
from common.script import PROJECT, ScriptError, run_script
from common.training import RECIPES, train
from models import Autoencoder

pytestmark = pytest.mark.slow


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupt(monkeypatch, saved, *args, **given):
    """Press Ctrl-C in the epoch after so many saved ones."""

    def check_or_stop(name, model, history, x):
        if len(history["train"]) > saved:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    with monkeypatch.context() as patch:
        patch.setattr("common.pretrained.check_training", check_or_stop)
        with pytest.raises(SystemExit, match="130"):
            run_script(lambda: load_or_train(*args, **given))
    signal.signal(signal.SIGINT, before)


def test_the_last_epoch_is_kept_and_comes_back_with_its_history(few_digits, tmp_path, capsys):
    data = replace(few_digits, x_clean_test=few_digits.x_clean_test.roll(8, dims=3))  # loss rises
    given = {"epochs": 3, "seed": 3, "batch_size": 16}
    model, history = load_or_train("autoencoder", data, tmp_path, **given)
    losses = [epoch["loss"] for epoch in history["test"]]
    assert min(losses[1:]) < losses[-1], "the last epoch is the best of the test images"
    by_epoch = train(replace(RECIPES["autoencoder"], epochs=3, batch_size=16), data, seed=3)
    expected = [(weights(trained), snapshot["history"]) for trained, snapshot in by_epoch][-1]
    again, history_again = load_or_train("autoencoder", data, tmp_path, seed=3, lr=None)
    for found, of in ((model, history), (again, history_again)):
        assert torch.equal(weights(found), expected[0])
        assert of == expected[1]
    loaded = load_model("autoencoder", str(tmp_path))
    assert torch.equal(weights(loaded), expected[0])
    for found in (model, loaded):
        assert not found.training
        assert found.reconstruct(data.x_clean_example)[0, 0].numpy().shape == (32, 32)
    assert list(files(tmp_path)) == ["autoencoder.pt"]
    *_, line = capsys.readouterr().err.splitlines()
    assert "autoencoder.pt holds autoencoder (epochs 3, batch size 16, lr 0.004, weight d" in line
    assert "seed 3, training images 96)" in line


def test_a_vae_is_built_with_the_size_and_the_n_that_it_was_trained_with(
    few_digits, tmp_path, capsys
):
    given = {"epochs": 1, "latent_size": 5, "pixels": 50.0}
    model, _ = load_or_train("vae16", few_digits, tmp_path, **given)
    again = load_model("vae16", tmp_path)
    assert torch.equal(weights(again), weights(model))
    assert again.encode(few_digits.x_clean_example).shape == (10, 5)
    assert "latent size 5, pixels 50.0" in capsys.readouterr().err
    other, _ = load_or_train("vae16", few_digits, tmp_path / "51", **given | {"pixels": 51.0})
    assert not torch.equal(weights(other), weights(model))


def test_a_model_that_a_folder_does_not_hold_is_the_projects(few_digits, tmp_path, capsys):
    model = load_model("autoencoder", tmp_path, dataset="mnist")
    assert "checkpoints/autoencoder.pt holds autoencoder (" in capsys.readouterr().err
    assert torch.equal(weights(model), weights(load_model("autoencoder")))
    own, _ = load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    assert torch.equal(weights(load_model("autoencoder", tmp_path)), weights(own))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 3}, "seed 0, not 3"),
        ({"limit": 64}, "limit 96, not 64"),
        ({"pixels": 50.0}, "pixels 100, not 50"),
    ],
)
def test_a_model_of_other_settings_than_given_is_not_loaded(few_digits, tmp_path, given, words):
    load_or_train("vae2", few_digits, tmp_path, epochs=1)
    with pytest.raises(ScriptError, match=rf"{words}.*--retrain.*another --out"):
        load_or_train("vae2", few_digits, tmp_path, **given)
    with pytest.raises(ScriptError, match=r"dataset digits, not mnist; give --dataset digits, or"):
        load_model("vae2", tmp_path, dataset="mnist")
    load_or_train("vae2", few_digits, tmp_path, retrain=True, **{"epochs": 1} | given)
    load_or_train("vae2", few_digits, tmp_path, **given)


def test_an_edit_that_the_weights_fit_changes_nothing_and_another_is_told(out, monkeypatch):
    def edited():
        model = Autoencoder()
        model.encoder.layers[1] = nn.ELU()
        return model

    recipe = replace(RECIPES["autoencoder"], model=lambda _: edited())
    with monkeypatch.context() as patch:
        patch.setitem(RECIPES, "autoencoder", recipe)
        load_model("autoencoder", out)
    monkeypatch.setattr("models.FILTERS", 8)
    for folder, way in ((out, f"--out {out} --retrain"), (PROJECT, "--out runs/try")):
        with pytest.raises(ScriptError) as error:
            load_model("autoencoder", folder)
        assert "encoder.layers.0.weight" in str(error.value)
        assert f"python ex1_autoencoder.py {way} trains one that fits" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["autoencoder", "classifier_augmented", "vae2"])
def test_an_interrupted_training_continues_to_the_same_weights(
    few_digits, tmp_path, monkeypatch, capsys, name
):
    given = {"epochs": 3, "batch_size": 32}
    whole, history = load_or_train(name, few_digits, tmp_path / "whole", **given)
    interrupt(monkeypatch, 2, name, few_digits, tmp_path / "part", **given)
    assert list(files(tmp_path / "part")) == [f"{name}.unfinished.pt"]
    torch.manual_seed(99)
    capsys.readouterr()
    continued, history_continued = load_or_train(name, few_digits, tmp_path / "part", **given)
    assert torch.equal(weights(whole), weights(continued))
    assert history == history_continued
    assert list(files(tmp_path / "part")) == [f"{name}.pt"]
    first, second = capsys.readouterr().err.splitlines()
    assert "from epoch 3; the same command continues it" in first
    assert "epoch  3/3" in second


def test_a_state_of_another_training_stays_until_the_first_epoch_replaces_it(
    few_digits, tmp_path, monkeypatch, capsys
):
    expected, _ = load_or_train("autoencoder", few_digits, tmp_path / "whole", epochs=2)
    part = tmp_path / "part"
    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "CODE", ["models.py"])  # other code than now
        interrupt(monkeypatch, 1, "autoencoder", few_digits, part, epochs=2)
    before = files(part)
    interrupt(monkeypatch, 0, "autoencoder", few_digits, part, epochs=2)
    assert files(part) == before
    model, _ = load_or_train("autoencoder", few_digits, part, epochs=2)
    assert torch.equal(weights(model), weights(expected))
    assert "starting over" in capsys.readouterr().err


def check(name, model, x):
    check_training(name, model, {"train": [{"loss": 0.1}], "test": [{"loss": 0.1}] * 2}, x)


@pytest.mark.parametrize(
    ("name", "dead"),
    [
        ("autoencoder", lambda model: model.encoder.layers[-3].bias.fill_(-99)),
        ("autoencoder", lambda model: model.decoder.layers[-3].bias.fill_(-99)),  # black images
        ("vae2", lambda model: model.encoder.layers[-1].weight[0].zero_()),  # one of two latents
        ("classifier", lambda model: model.dense.weight.zero_()),
    ],
)
@torch.no_grad()
def test_a_model_that_collapses_is_named(digits, name, dead):
    model, x = RECIPES[name].model(2), digits.x_clean_train[:500]
    RECIPES[name].init(model, x)
    check(name, model, x)
    dead(model)
    with pytest.raises(ScriptError, match=rf"after epoch 1 the {name} .*same for every .*--seed"):
        check(name, model, x)


@pytest.mark.parametrize("damage", ["cut off", "not finite", "pickled code", "another file"])
def test_a_file_that_is_no_sound_checkpoint_is_refused(tmp_path, damage):
    model, checkpoint = untrained("autoencoder")
    path = tmp_path / "autoencoder.pt"
    if damage == "not finite":
        nn.init.constant_(next(model.parameters()), float("nan"))
    torch.save({"pickled code": model, "another file": [1]}.get(damage, checkpoint), path)
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:9999])
    with pytest.raises(ScriptError, match=r"autoencoder.pt is damaged or not a checkpoint"):
        read_checkpoint(path)
