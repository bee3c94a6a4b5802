"""Models that are loaded, trained, continued after an interruption, or found to be broken."""

from dataclasses import replace

import pytest
import torch
from conftest import files, weights
from torch import nn

from common.pretrained import check_training, load_model, load_or_train, read_checkpoint
from common.script import PROJECT, ScriptError, run_script
from common.training import RECIPES
from models import Autoencoder
from studies.study import fit

pytestmark = pytest.mark.slow


def interrupt(monkeypatch, saved, *args, **given):
    """Press Ctrl-C in the epoch after so many saved ones."""

    def check_or_stop(name, model, history, x):
        if len(history["train"]) > saved:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("common.pretrained.check_training", check_or_stop)
        with pytest.raises(SystemExit, match="130"):
            run_script(lambda: load_or_train(*args, **given))


def test_the_last_epoch_is_kept_and_comes_back_with_its_history(few_digits, tmp_path, capsys):
    data = replace(few_digits, x_clean_test=few_digits.x_clean_test.roll(8, dims=3))  # loss rises
    given = {"epochs": 3, "batch_size": 16, "lr": 0.03}
    expected, history = fit(replace(RECIPES["autoencoder"], **given), data, seed=3)
    losses = [epoch["loss"] for epoch in history["test"]]
    assert min(losses[1:]) < losses[-1], "the last epoch is the best of the test images"
    for settings in (given | {"seed": 3}, {"seed": 3, "lr": None}):  # trained, then loaded
        model, found = load_or_train("autoencoder", data, tmp_path, **settings)
        assert found == history
        for own in (model, load_model("autoencoder", str(tmp_path))):
            assert torch.equal(weights(own), weights(expected))
            assert not own.training
            assert not own.reconstruct(data.x_clean_example).requires_grad
    assert list(files(tmp_path)) == ["checkpoints/autoencoder.pt"]
    *_, line = capsys.readouterr().err.splitlines()
    assert "autoencoder.pt holds autoencoder (epochs 3, batch size 16, lr 0.03, weight d" in line
    assert "seed 3, training images 96)" in line


def test_a_model_that_a_folder_does_not_hold_is_the_projects(few_digits, tmp_path, capsys):
    model = load_model("autoencoder", tmp_path, dataset="mnist")
    assert "checkpoints/autoencoder.pt holds autoencoder (" in capsys.readouterr().err
    assert torch.equal(weights(model), weights(load_model("autoencoder")))
    own, _ = load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    assert torch.equal(weights(load_model("autoencoder", tmp_path)), weights(own))


def test_a_model_of_other_settings_than_given_is_refused_until_it_is_replaced(few_digits, out):
    for given, words in (
        ({"seed": 3}, "seed 0, not 3"),
        ({"limit": 32}, "limit 96, not 32"),
        ({"pixels": 50.0}, "pixels 100, not 50"),
    ):
        with pytest.raises(ScriptError, match=rf"{words}.*--retrain.*another --out"):
            load_or_train("vae2", few_digits, out, **given)
        load_or_train("vae2", few_digits, out, retrain=True, epochs=1, **given)
        load_or_train("vae2", few_digits, out, **given)
    with pytest.raises(ScriptError, match=r"dataset digits, not mnist; give --dataset digits, or"):
        load_model("vae2", out, dataset="mnist")


def test_an_edit_that_the_weights_fit_changes_nothing_and_another_is_reported(out, monkeypatch):
    edited = Autoencoder()
    edited.encoder.layers[1] = nn.ELU()
    with monkeypatch.context() as patch:
        recipe = replace(RECIPES["autoencoder"], model=lambda _: edited)
        patch.setitem(RECIPES, "autoencoder", recipe)
        load_model("autoencoder", out)
    monkeypatch.setattr("models.FILTERS", 8)
    for folder, way in ((out, f"--out {out} --retrain"), (PROJECT, "--out runs/try")):
        told = rf".*encoder.layers.0.weight.*python ex1_autoencoder.py {way} trains one that fits"
        with pytest.raises(ScriptError, match=told + "$"):
            load_model("autoencoder", folder)


@pytest.mark.parametrize("name", ["autoencoder", "classifier_augmented", "vae2"])
def test_an_interrupted_training_run_continues_to_the_same_weights(
    few_digits, tmp_path, monkeypatch, capsys, name
):
    given = {"epochs": 3, "batch_size": 32}
    whole, history = fit(replace(RECIPES[name], **given), few_digits)
    interrupt(monkeypatch, 2, name, few_digits, tmp_path, **given)
    assert list(files(tmp_path)) == [f"checkpoints/{name}.unfinished.pt"]
    torch.manual_seed(99)
    capsys.readouterr()
    continued, history_continued = load_or_train(name, few_digits, tmp_path, **given)
    assert torch.equal(weights(whole), weights(continued))
    assert history == history_continued
    assert list(files(tmp_path)) == [f"checkpoints/{name}.pt"]
    first, second = capsys.readouterr().err.splitlines()
    assert "from epoch 3; the same command continues it" in first
    assert "epoch  3/3" in second


def test_a_state_of_another_training_run_stays_until_the_first_epoch_replaces_it(
    few_digits, tmp_path, monkeypatch, capsys
):
    expected, _ = fit(replace(RECIPES["autoencoder"], epochs=2), few_digits)
    run = "autoencoder", few_digits, tmp_path
    with monkeypatch.context() as patch:
        patch.setattr("common.pretrained.CODE", ["models.py"])  # other code than now
        interrupt(monkeypatch, 1, *run, epochs=2)
    before = files(tmp_path)
    interrupt(monkeypatch, 0, *run, epochs=2)
    assert files(tmp_path) == before
    model, _ = load_or_train(*run, epochs=2)
    assert torch.equal(weights(model), weights(expected))
    assert "starting over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kill"),
    [
        ("autoencoder", lambda model: model.encoder.layers[-3].bias.fill_(-99)),
        ("autoencoder", lambda model: model.decoder.layers[-3].bias.fill_(-99)),  # black images
        ("vae2", lambda model: model.encoder.layers[-1].weight[0].zero_()),  # one of two latents
        ("classifier", lambda model: model.dense.weight.zero_()),
    ],
)
@torch.no_grad()
def test_a_model_that_collapses_is_named(digits, name, kill):
    model, x = RECIPES[name].model(2), digits.x_clean_train[:200]
    history = {"train": [{"loss": 0.1}], "test": [{"loss": 0.1}] * 2}
    RECIPES[name].init(model, x)
    check_training(name, model, history, x)
    kill(model)
    with pytest.raises(ScriptError, match=rf"after epoch 1 the {name} .*same for every .*--seed"):
        check_training(name, model, history, x)


@pytest.mark.parametrize("damage", ["cut off", "not finite", "pickled code", "another file"])
def test_a_file_that_is_no_sound_checkpoint_is_refused(out, damage):
    path = out / "checkpoints/autoencoder.pt"
    checkpoint = read_checkpoint(path)
    if damage == "not finite":
        checkpoint["model"]["encoder.layers.0.bias"][0] = torch.nan
    if damage == "pickled code":
        checkpoint["more"] = Autoencoder()
    torch.save([1] if damage == "another file" else checkpoint, path)
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:9999])
    with pytest.raises(ScriptError, match=r"autoencoder.pt is damaged or not a checkpoint"):
        read_checkpoint(path)
