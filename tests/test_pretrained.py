"""Models that are loaded, trained, continued after an interruption, or found to be broken."""

import re
import signal
from dataclasses import replace

from common import pretrained
from common.initialization import init_autoencoder, init_vae
from common.pretrained import (
    RECIPES,
    check_training,
    load_checkpoint,
    load_model,
    load_or_train,
)
from common.script import ScriptError, run_script
from common.training import TrainState

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.slow


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def stop_after(monkeypatch, epochs, error=KeyboardInterrupt):
    """Let the training end in the epoch after so many."""
    calls = []

    def check_or_stop(*args):
        calls.append(args)
        if len(calls) == epochs + 1:
            raise error
        return check_training(*args)

    monkeypatch.setattr("common.pretrained.check_training", check_or_stop)


def interrupt(monkeypatch, saved, *args, **changes):
    """Train until so many epochs are saved."""
    with monkeypatch.context() as patch:
        stop_after(patch, saved)
        with pytest.raises(KeyboardInterrupt):
            load_or_train(*args, **changes)


def test_a_checkpoint_comes_back_with_its_history(few_digits, tmp_path, monkeypatch):
    model, history = load_or_train("autoencoder", few_digits, tmp_path, epochs=1, seed=3)
    monkeypatch.setattr("common.pretrained.train", lambda *_: pytest.fail("trained again"))
    again, history_again = load_or_train("autoencoder", few_digits, tmp_path)
    assert torch.equal(weights(model), weights(again))
    assert history == history_again
    assert torch.equal(weights(load_model("autoencoder", tmp_path)), weights(model))
    settings = load_checkpoint("autoencoder", tmp_path)[1]["settings"]
    expected = {"epochs": 1, "seed": 3, "training_images": 96, "dataset": "digits", "threads": 1}
    assert (expected | {"torch": str(torch.__version__)}).items() <= settings.items()
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]


@pytest.mark.parametrize("name", ["autoencoder", "classifier_augmented", "vae2"])
def test_an_interrupted_training_continues_to_the_same_weights(
    few_digits, tmp_path, monkeypatch, capsys, name
):
    changes = {"epochs": 3, "batch_size": 32}
    whole, history = load_or_train(name, few_digits, tmp_path / "whole", **changes)
    interrupt(monkeypatch, 2, name, few_digits, tmp_path, **changes)
    assert [path.name for path in tmp_path.glob("*.pt")] == [f"{name}.unfinished.pt"]
    torch.manual_seed(99)
    capsys.readouterr()
    continued, history_continued = load_or_train(name, few_digits, tmp_path, **changes)
    assert torch.equal(weights(whole), weights(continued))
    assert history == history_continued
    assert [path.name for path in tmp_path.glob("*.pt")] == [f"{name}.pt"]
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"continuing .*unfinished.pt after epoch 2", lines[1])
    assert "epoch  3/3" in lines[2]


def test_retrain_continues_an_interrupted_retraining(few_digits, tmp_path, monkeypatch, capsys):
    load_or_train("autoencoder", few_digits, tmp_path, epochs=2)
    arguments = ("autoencoder", few_digits, tmp_path, None, True)
    interrupt(monkeypatch, 1, *arguments, epochs=2, seed=5)
    capsys.readouterr()
    load_or_train("autoencoder", few_digits, tmp_path)  # loads the old one and says so
    line, _ = capsys.readouterr().err.splitlines()
    assert "autoencoder.unfinished.pt holds an unfinished training" in line
    load_or_train(*arguments, epochs=2, seed=5)
    assert "unfinished.pt after epoch 1" in capsys.readouterr().err
    assert load_checkpoint("autoencoder", tmp_path)[1]["settings"]["seed"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]


@pytest.mark.parametrize("change", ["seed", "damage"])
def test_a_state_of_another_training_stays_until_the_first_epoch_replaces_it(
    few_digits, tmp_path, monkeypatch, capsys, change
):
    expected, _ = load_or_train("autoencoder", few_digits, tmp_path / "whole", epochs=2)
    changes = {"seed": 9} if change == "seed" else {}
    interrupt(monkeypatch, 1, "autoencoder", few_digits, tmp_path, epochs=2, **changes)
    unfinished = tmp_path / "autoencoder.unfinished.pt"
    if change == "damage":
        unfinished.write_bytes(unfinished.read_bytes()[:-100])
    before = unfinished.read_bytes()
    interrupt(monkeypatch, 0, "autoencoder", few_digits, tmp_path, epochs=2)
    assert unfinished.read_bytes() == before
    capsys.readouterr()
    model, _ = load_or_train("autoencoder", few_digits, tmp_path, epochs=2)
    assert torch.equal(weights(model), weights(expected))
    assert "is replaced after the first epoch" in capsys.readouterr().err
    assert not unfinished.exists()


def test_an_edit_of_what_a_training_uses_begins_it_anew_and_another_edit_does_not(
    few_digits, tmp_path, monkeypatch, capsys
):
    for name, value, first in (("PIXELS", 100, 1), ("FILTERS", 17, 2), ("PIXELS", 50, 1)):
        monkeypatch.setattr(f"models.{name}", value)
        capsys.readouterr()
        interrupt(monkeypatch, 1, "vae2", few_digits, tmp_path, epochs=3)  # saves one epoch
        assert f"epoch  {first}/3" in capsys.readouterr().err


def test_a_run_takes_what_it_does_not_hold_from_the_folder_above(few_digits, tmp_path, capsys):
    committed, _ = load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    run = (few_digits, tmp_path / "run", tmp_path)
    capsys.readouterr()
    found, _ = load_or_train("autoencoder", *run)
    assert torch.equal(weights(found), weights(committed))
    assert capsys.readouterr().err.splitlines() == [
        "the run run holds no autoencoder",
        f"autoencoder from {tmp_path / 'autoencoder.pt'}",
    ]
    own, _ = load_or_train("autoencoder", *run, epochs=2)
    found, history = load_or_train("autoencoder", *run)
    assert torch.equal(weights(found), weights(own))
    assert len(history["train"]["loss"]) == 2
    assert torch.equal(weights(load_model("autoencoder", tmp_path)), weights(committed))


def test_a_run_trains_an_edited_network_and_says_why(few_digits, tmp_path, monkeypatch, capsys):
    load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    monkeypatch.setattr("models.FILTERS", 8)
    monkeypatch.setitem(RECIPES, "autoencoder", replace(RECIPES["autoencoder"], epochs=1))
    capsys.readouterr()
    load_or_train("autoencoder", few_digits, tmp_path / "run", tmp_path)
    _, why, training, *_ = capsys.readouterr().err.splitlines()
    assert re.search("does not fit: .* another network", why)
    assert re.match("training the autoencoder: 1 epoch on 96 images;", training)
    assert (tmp_path / "run" / "autoencoder.pt").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("epochs", "with epochs 1 instead of 2"),
        ("seed", "seed 0 instead of 3"),
        ("loss", "another version"),
    ],
)
def test_a_run_that_was_trained_otherwise_is_not_loaded(
    few_digits, tmp_path, monkeypatch, change, words
):
    run = ("vae2", few_digits, tmp_path / "run", tmp_path)
    load_or_train(*run, epochs=1)
    load_or_train(*run, epochs=1)
    before = (tmp_path / "run" / "vae2.pt").read_bytes()
    changes = {"epochs": {"epochs": 2}, "seed": {"seed": 3}, "loss": {}}[change]
    if change == "loss":
        monkeypatch.setattr("models.PIXELS", 50)
    with pytest.raises(ScriptError, match=rf"{words}.*--retrain.*--run"):
        load_or_train(*run, **changes)
    assert (tmp_path / "run" / "vae2.pt").read_bytes() == before
    load_or_train(*run, retrain=True, **{"epochs": 1} | changes)
    load_or_train(*run)


def test_ctrl_c_ends_with_one_line_and_the_same_command_goes_on(
    few_digits, tmp_path, monkeypatch, capsys
):
    def train():
        load_or_train("autoencoder", few_digits, tmp_path, epochs=2)

    def interrupt_the_second_epoch(state, x):
        if state.epoch == 2:
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
    first, *_, last = capsys.readouterr().err.splitlines()
    assert "the same command continues it after an interruption" in first
    assert last.endswith("interrupted")
    train()
    assert "unfinished.pt after epoch 1" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]


def test_one_flipped_bit_of_a_weight_is_noticed(few_digits, tmp_path):
    model, _ = load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    path = tmp_path / "autoencoder.pt"
    content = bytearray(path.read_bytes())
    place = content.index(model.encoder.layers[0].weight.detach().numpy().tobytes())
    content[place + 3] ^= 64  # the highest bit of an exponent
    path.write_bytes(content)
    with pytest.raises(ScriptError, match="damaged"):
        load_model("autoencoder", tmp_path)


@pytest.mark.parametrize("change", ["activation", "upsampling"])
def test_weights_of_another_network_of_the_same_shapes_are_refused(
    few_digits, tmp_path, monkeypatch, change
):
    load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    before = RECIPES["autoencoder"]

    def changed():
        model = before.model()
        if change == "activation":
            model.encoder.layers[1] = nn.ELU()
        else:
            model.decoder.layers[2].mode = "nearest"
        return model

    monkeypatch.setitem(RECIPES, "autoencoder", replace(before, model=changed))
    with pytest.raises(ScriptError, match=r"another network.* --run") as error:
        load_model("autoencoder", tmp_path)
    assert "retrain" not in str(error.value)  # that would replace the committed model
    monkeypatch.setattr("torch.__version__", f"{torch.__version__}+another.build")
    with pytest.raises(ScriptError, match="another network"):
        load_model("autoencoder", tmp_path)
    monkeypatch.setattr(
        "torch.__version__", "1.2.3"
    )  # another release may print layers differently
    load_model("autoencoder", tmp_path)


def test_a_training_that_diverges_says_so_and_changes_no_file(few_digits, tmp_path, monkeypatch):
    load_or_train("autoencoder", few_digits, tmp_path, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ScriptError, match=r"diverged.*learning rate below 1e\+08"):
        load_or_train("autoencoder", few_digits, tmp_path, retrain=True, lr=1e8, epochs=2)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def fail_after_the_second_epoch(state, x):
        if state.epoch == 2:
            raise ScriptError

    monkeypatch.setattr("common.pretrained.check_training", fail_after_the_second_epoch)
    with pytest.raises(ScriptError):
        load_or_train("autoencoder", few_digits, tmp_path, retrain=True, epochs=3)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before  # and no state


@pytest.mark.parametrize(
    ("first", "loss", "ends"),
    [(0.1, 9.0, False), (0.1, 11.0, True), (5.0, 49.0, False), (0.1, float("nan"), True)],
)
def test_a_loss_that_explodes_or_is_no_number_ends_the_training(few_digits, first, loss, ends):
    state = TrainState(replace(RECIPES["autoencoder"], epochs=1), few_digits.x_clean_train)
    state.history = {"train": {"loss": [0.1]}, "test": {"loss": [first, loss]}}
    if ends:
        with pytest.raises(ScriptError, match=r"after epoch 1 .*diverged"):
            pretrained.check_training(state, few_digits.x_clean_test)
    else:
        pretrained.check_training(state, few_digits.x_clean_test)


@pytest.mark.parametrize("name", ["autoencoder", "classifier", "vae2"])
def test_a_model_that_collapses_is_named_and_never_saved(tmp_path, few_digits, monkeypatch, name):
    def dead(model, x):
        for parameter in model.parameters():
            nn.init.zeros_(parameter)

    monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], init=dead))
    with pytest.raises(ScriptError, match=r"after epoch 1 .*same for every image.*--seed"):
        load_or_train(name, few_digits, tmp_path, epochs=3, lr=1e-9)
    assert not list(tmp_path.iterdir())


def check(model, x):
    state = TrainState(RECIPES["autoencoder"], x)
    state.model = model
    state.history = {"train": {"loss": [0.1]}, "test": {"loss": [0.1, 0.1]}}
    pretrained.check_training(state, x)


def test_one_dead_latent_unit_of_the_autoencoder_ends_the_training(digits):
    model, x = RECIPES["autoencoder"].model(), digits.x_clean_train[:500]
    init_autoencoder(model, x)
    check(model, x)
    encode = model.encode
    model.encode = lambda x: encode(x) * torch.tensor([1.0, 0.0])
    with pytest.raises(ScriptError, match="same for every image"):
        check(model, x)


def test_a_vae_may_leave_some_units_inactive_but_not_all_but_one(digits):
    model, x = RECIPES["vae16"].model(), digits.x_clean_train[:200]
    init_vae(model, x)
    last = model.encoder.layers[-1]
    for live in (16, 2, 1):
        with torch.no_grad():
            last.weight[live:16], last.bias[live:16] = 0, 0
        if live > 1:
            check(model, x)
        else:
            with pytest.raises(ScriptError, match="same for every image"):
                check(model, x)


def test_a_missing_model_is_told_with_the_exercises_and_the_names(tmp_path):
    with pytest.raises(ScriptError, match=r"vae2.pt does not exist; exercises 1, 4, 7 and 8"):
        load_model("vae2", tmp_path)
    with pytest.raises(ScriptError, match=r"no model 'vae'; .*autoencoder.*vae2, vae16"):
        load_model("vae")
