"""Models that are loaded, trained, resumed, or found to be broken."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from common.checkpoints import write_checkpoint
from common.errors import CheckpointError, TrainingError, UsageError
from common.initialization import init_weights
from common.pretrained import (
    RECIPES,
    check_training,
    find_collapse,
    load_checkpoint,
    load_model,
    load_or_train,
)
from common.training import TrainState, evaluate


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_checkpoint_comes_back_with_its_history(few_digits, cpu, tmp_path, monkeypatch):
    changes = {"epochs": 1, "seed": 3}
    model, history = load_or_train("autoencoder", few_digits, tmp_path, cpu, **changes)
    monkeypatch.setattr("common.pretrained.train", lambda *_: pytest.fail("trained again"))
    again, history_again = load_or_train("autoencoder", few_digits, tmp_path, cpu)
    assert torch.equal(weights(model), weights(again))
    assert history == history_again
    assert torch.equal(weights(load_model("autoencoder", tmp_path)), weights(model))
    settings = load_checkpoint("autoencoder", tmp_path)[1]["settings"]
    expected = {"epochs": 1, "seed": 3, "training_images": 96}
    expected |= {"dataset": "digits", "threads": 1, "torch": torch.__version__}
    assert expected.items() <= settings.items()
    assert settings["seconds"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]


@pytest.mark.parametrize("name", ["autoencoder", "vae2"])
def test_an_interrupted_training_resumes_to_the_same_weights(
    few_digits, cpu, tmp_path, monkeypatch, name
):
    changes = {"epochs": 4, "batch_size": 32}
    whole, history = load_or_train(name, few_digits, tmp_path / "whole", cpu, **changes)
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:  # before the first epoch, and after each of three
            raise KeyboardInterrupt
        return evaluate(*args)

    with monkeypatch.context() as patch:
        patch.setattr("common.training.evaluate", interrupted)
        with pytest.raises(
            KeyboardInterrupt, match=r"interrupted; continue with python ex.* --resume"
        ):
            load_or_train(name, few_digits, tmp_path, cpu, **changes)
    with pytest.raises(UsageError, match=r"was interrupted.* --resume .* --retrain"):
        load_or_train(name, few_digits, tmp_path, cpu, **changes)
    torch.manual_seed(99)
    resumed, history_resumed = load_or_train(
        name, few_digits, tmp_path, cpu, resume=True, **changes
    )
    assert torch.equal(weights(whole), weights(resumed))
    assert history == history_resumed
    assert not list(tmp_path.glob("*.resume.pt"))


def test_a_full_disk_says_how_to_continue_and_resume_continues(
    few_digits, cpu, tmp_path, monkeypatch
):
    written = []

    def full(path, checkpoint):
        if len(written) == 2:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write_checkpoint(path, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr("common.pretrained.write_checkpoint", full)
        message = r"autoencoder.resume.pt: No space left .*; continue with python ex1.* --resume"
        with pytest.raises(TrainingError, match=message):
            load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=3)
    load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=3, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]


def test_a_training_interrupted_before_its_checkpoint_was_written_resumes(
    few_digits, cpu, tmp_path, monkeypatch
):
    def killed(path, checkpoint):
        if path.name == "autoencoder.pt":
            raise KeyboardInterrupt
        write_checkpoint(path, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr("common.pretrained.write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=2)
    _, history = load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=2, resume=True)
    assert len(history["train"]["loss"]) == 2
    assert load_checkpoint("autoencoder", tmp_path)[1]["settings"]["seconds"] > 0


def test_a_plain_run_beside_an_interrupted_training_says_so(few_digits, cpu, tmp_path, capsys):
    load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=1)
    (tmp_path / "autoencoder.resume.pt").touch()
    capsys.readouterr()
    load_or_train("autoencoder", few_digits, tmp_path, cpu)
    (line,) = capsys.readouterr().err.splitlines()
    assert "autoencoder.resume.pt is an interrupted training" in line
    assert "ex1_autoencoder.py --resume" in line


def test_one_flipped_bit_of_a_weight_is_noticed(few_digits, cpu, tmp_path):
    model, _ = load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=1)
    path = tmp_path / "autoencoder.pt"
    content = bytearray(path.read_bytes())
    place = content.index(model.encoder.layers[0].weight.detach().numpy().tobytes())
    content[place + 3] ^= 64  # the highest bit of an exponent
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model("autoencoder", tmp_path)


@pytest.mark.parametrize("change", ["activation", "upsampling"])
def test_weights_of_another_network_of_the_same_shapes_are_refused(
    few_digits, cpu, tmp_path, monkeypatch, change
):
    load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=1)
    before = RECIPES["autoencoder"]

    def changed():
        model = before.model()
        if change == "activation":
            model.encoder.layers[1] = nn.ELU()
        else:
            model.decoder.layers[2].mode = "nearest"
        return model

    monkeypatch.setitem(RECIPES, "autoencoder", replace(before, model=changed))
    with pytest.raises(CheckpointError, match=r"another network; python ex1.* --retrain"):
        load_model("autoencoder", tmp_path)


def test_retraining_forgets_an_interrupted_training(few_digits, cpu, tmp_path, monkeypatch):
    (tmp_path / "autoencoder.resume.pt").touch()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("common.training.evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt, match="no epoch was saved"):
        load_or_train("autoencoder", few_digits, tmp_path, cpu, retrain=True)
    assert not list(tmp_path.glob("*.pt"))


def test_training_options_never_silently_do_nothing(few_digits, cpu, tmp_path):
    load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=1)
    for given in (
        {"epochs": 2},
        {"seed": 1},
        {"lr": 0.1},
        {"batch_size": 8},
    ):
        with pytest.raises(UsageError, match=f"{next(iter(given)).replace('_', ' ')} .*--retrain"):
            load_or_train("autoencoder", few_digits, tmp_path, cpu, **given)
    load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=1)


def test_a_training_that_diverges_says_so_and_saves_nothing(few_digits, cpu, tmp_path):
    with pytest.raises(TrainingError, match=r"diverged.*learning rate below 1e\+08"):
        load_or_train("autoencoder", few_digits, tmp_path, cpu, lr=1e8, epochs=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("loss", "ends"), [(9.0, False), (11.0, True), (float("nan"), True)])
def test_a_loss_that_explodes_or_is_no_number_ends_the_training(few_digits, cpu, loss, ends):
    recipe = replace(RECIPES["autoencoder"], epochs=1)
    state = TrainState(recipe, few_digits.x_clean_train, cpu)
    state.history = {"train": {"loss": [0.1]}, "test": {"loss": [0.1, loss]}}
    x = few_digits.x_clean_train
    if not ends:
        check_training(state, x)
        return
    with pytest.raises(TrainingError, match=r"after epoch 1 .*diverged"):
        check_training(state, x)
    state.history = {"train": {"loss": [loss]}, "test": {"loss": [0.1, 0.1]}}
    if loss != loss:
        with pytest.raises(TrainingError, match="diverged"):
            check_training(state, x)


@pytest.mark.parametrize("name", ["autoencoder", "classifier", "vae2"])
def test_a_model_that_collapses_is_named_and_never_saved(
    tmp_path, cpu, few_digits, monkeypatch, name
):
    load_or_train(name, few_digits, tmp_path, cpu, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def dead(model, x):
        for parameter in model.parameters():
            nn.init.zeros_(parameter)

    monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], init=dead))
    with pytest.raises(TrainingError, match=r"after epoch 1 .*(same|fewer than two).*--seed"):
        load_or_train(name, few_digits, tmp_path, cpu, retrain=True, epochs=3, lr=1e-9)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_collapse_leaves_no_state_to_continue_from(tmp_path, cpu, few_digits, monkeypatch):
    answers = [None, "the output is the same for every image"]  # after the first two epochs
    monkeypatch.setattr("common.pretrained.find_collapse", lambda *_: answers.pop(0))
    with pytest.raises(TrainingError, match="after epoch 2 the output"):
        load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=3)
    assert not list(tmp_path.iterdir())


def test_one_dead_latent_unit_of_the_autoencoder_is_named(digits):
    model, x = RECIPES["autoencoder"].model(), digits.x_clean_train[:500]
    init_weights(model, x)
    assert find_collapse(model, x) is None
    encode = model.encode
    model.encode = lambda x: encode(x) * torch.tensor([1.0, 0.0])
    assert "latent unit 2" in find_collapse(model, x)


def test_a_vae_may_leave_some_units_inactive_but_not_all_but_one(digits):
    model, x = RECIPES["vae16"].model(), digits.x_clean_train[:200]
    init_weights(model, x)
    last = model.encoder.layers[-1]
    for live, collapsed in ((16, False), (2, False), (1, True)):
        with torch.no_grad():
            for unit in range(live, 16):
                for row in (unit, 16 + unit):  # its mean and its log standard deviation
                    last.weight[row], last.bias[row] = 0, 0
        before = torch.get_rng_state()
        assert bool(find_collapse(model, x)) == collapsed
        assert torch.equal(torch.get_rng_state(), before)  # looking does not change the training


def test_a_missing_checkpoint_names_the_script_that_trains_it(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"vae2.pt does not exist; python ex7_vae.py trains it"
    ):
        load_model("vae2", tmp_path)
