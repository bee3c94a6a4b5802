"""Models that are loaded, trained, continued after an interruption, or found to be broken."""

import re
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

pytestmark = pytest.mark.slow


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupt(monkeypatch, saved, *args, **given):
    """Train until so many epochs are saved."""

    def check_or_stop(name, model, history, x):
        if len(history["train"]) > saved:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("common.pretrained.check_training", check_or_stop)
        with pytest.raises(KeyboardInterrupt):
            load_or_train(*args, **given)


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


def test_a_missing_model_is_told_with_the_command_that_trains_it(tmp_path):
    with pytest.raises(ScriptError) as error:  # the project's was trained on MNIST
        load_model("classifier", tmp_path, dataset="digits")
    command = f"python ex4_classifier.py --out {tmp_path} --dataset digits trains it"
    path = tmp_path / "checkpoints" / "classifier.pt"
    assert str(error.value) == f"{path} does not exist; {command}"
    with pytest.raises(ScriptError, match=r"no model 'vae'; .*autoencoder.*vae2, vae16"):
        load_model("vae")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 2}, "epochs 1, not 2"),
        ({"seed": 3}, "seed 0, not 3"),
        ({"limit": 64}, "limit 96, not 64"),
        ({"pixels": 50.0}, "pixels 100, not 50"),
    ],
)
def test_a_model_of_other_settings_than_given_is_not_loaded(few_digits, tmp_path, given, words):
    load_or_train("vae2", few_digits, tmp_path, epochs=1)
    before = files(tmp_path)
    with pytest.raises(ScriptError, match=rf"{words}.*--retrain.*another --out"):
        load_or_train("vae2", few_digits, tmp_path, **given)
    with pytest.raises(ScriptError, match=r"dataset digits, not mnist; give --dataset digits, or"):
        load_model("vae2", tmp_path, dataset="mnist")
    assert files(tmp_path) == before
    load_or_train("vae2", few_digits, tmp_path, retrain=True, **{"epochs": 1} | given)
    load_or_train("vae2", few_digits, tmp_path, **given)


def test_an_edit_that_the_weights_fit_changes_nothing_and_another_is_told(
    few_digits, tmp_path, monkeypatch
):
    load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    before = RECIPES["autoencoder"]

    def edit(_):
        model = before.model(None)
        model.encoder.layers[1] = nn.ELU()
        return model

    monkeypatch.setitem(RECIPES, "autoencoder", replace(before, model=edit))
    load_or_train("autoencoder", few_digits, tmp_path)
    monkeypatch.setitem(RECIPES, "autoencoder", before)
    monkeypatch.setattr("models.FILTERS", 8)
    for load in (
        lambda: load_or_train("autoencoder", few_digits, tmp_path),
        lambda: load_model("autoencoder", tmp_path),
    ):
        with pytest.raises(ScriptError) as error:
            load()
        assert re.search(r"encoder.layers.0.weight.*python ex1.* --retrain", str(error.value))
        assert f"--out {tmp_path}" in str(error.value)
    for out, way in (("runs/wide", "--out runs/wide"), (PROJECT, "--out runs/try")):
        with pytest.raises(ScriptError, match=rf"python ex4_classifier.py {way} trains one"):
            load_model("classifier", out)


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


@pytest.mark.parametrize("change", [{"epochs": 3}, {"code": True}])
def test_a_state_of_another_training_stays_until_the_first_epoch_replaces_it(
    few_digits, tmp_path, monkeypatch, capsys, change
):
    expected, _ = load_or_train("autoencoder", few_digits, tmp_path / "whole", epochs=2)
    part, edited = tmp_path / "part", change.pop("code", False)
    interrupt(monkeypatch, 1, "autoencoder", few_digits, part, **{"epochs": 2} | change)
    if edited:
        (tmp_path / "models.py").write_text("edited")
        monkeypatch.setattr(pretrained, "CODE", [tmp_path / "models.py"])
    before = files(part)
    interrupt(monkeypatch, 0, "autoencoder", few_digits, part, epochs=2)
    assert files(part) == before
    model, _ = load_or_train("autoencoder", few_digits, part, epochs=2)
    assert torch.equal(weights(model), weights(expected))
    assert "starting over" in capsys.readouterr().err


def test_ctrl_c_ends_with_one_line_and_the_same_command_goes_on(
    few_digits, tmp_path, monkeypatch, capsys
):
    def train():
        load_or_train("autoencoder", few_digits, tmp_path, epochs=2)

    def interrupt_the_second_epoch(name, model, history, x):
        if len(history["train"]) == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr("common.pretrained.check_training", interrupt_the_second_epoch)
            with pytest.raises(SystemExit) as stop:
                run_script(train)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("interrupted")
    train()
    assert "from epoch 2" in capsys.readouterr().err
    assert list(files(tmp_path)) == ["autoencoder.pt"]


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
