"""What a student may do wrong: each ends with one line that says so, and leaves no file behind."""

import importlib
import re
import subprocess
import sys

import pytest
import torch
from conftest import untrained

from common.script import PROJECT, make_parser, read_options, run_script
from common.training import RECIPES

EX1, EX2, EX7, EX8 = "ex1_autoencoder", "ex2_latent", "ex7_vae", "ex8_map_denoise"
OUT = ["--out", "{tmp}/out"]
AUTO = ["--dataset", "auto", "--data-dir", "{tmp}/data", *OUT]


def checkpoint(name="autoencoder", **sizes):
    """Prepare a checkpoint, and that of the classifier."""

    def prepare(tmp):
        folder = tmp / "out/checkpoints"
        folder.mkdir(parents=True)
        torch.save(untrained("classifier")[1], folder / "classifier.pt")
        torch.save(untrained(name, **sizes)[1], folder / f"{name}.pt")

    return prepare


def nothing(tmp):
    pass


# what is wrong: script, prepared by, options, exit status, and words that the line must have
CASES = {
    "epochs without a number": (EX1, nothing, ["--epochs"], 2, ["--epochs"]),
    "no rate": (EX1, nothing, ["--lr", "nan"], 2, ["--lr", "nan"]),
    "negative noise": (EX8, nothing, ["--noise=-1"], 2, ["--noise", "-1"]),
    "device of a Mac": (EX1, nothing, ["--device", "mps"], 2, ["--device", "mps", "cpu"]),
    "no folder": (EX1, nothing, ["--out", ""], 2, ["--out"]),
    "folder is a file": (EX1, nothing, ["--out", __file__], 2, ["--out", "folder"]),
    "latents of exercise 7": (EX7, nothing, [*OUT, "--latent-size", "3"], 1, ["two", "exercise 8"]),
    "diverges": (EX1, checkpoint(), [*OUT, "--retrain", "--lr", "1e6"], 1, ["lower --lr"]),
    "one image": (EX7, checkpoint(), [*OUT, "--limit", "1"], 1, ["the vae2 gives", "more images"]),
    "no model": (EX2, nothing, OUT, 1, ["autoencoder.pt", "python ex1_autoencoder.py --out"]),
    "another epoch": (EX1, checkpoint(), [*OUT, "--epochs", "3"], 1, ["epochs 20, not 3"]),
    "other latents": (
        EX8,
        checkpoint("vae16", latent_size=4),
        [*OUT, "--latent-size", "5"],
        1,
        ["latent size 4, not 5", "--retrain"],
    ),
    "no data, no internet": (EX1, nothing, AUTO, 1, ["cannot be downloaded", "data/README.md"]),
}


def files(tmp):
    return {path: path.read_bytes() for path in tmp.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_on_one_line_and_leaves_nothing_behind(tmp_path, capsys, offline, case):
    script, prepare, own, status, words = CASES[case]
    prepare(tmp_path)
    before = files(tmp_path)
    own = [option.replace("{tmp}", str(tmp_path)) for option in own]
    main = importlib.import_module(script).main
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: main(["--dataset=digits", *own]))
    code, line = (
        (1, stop.value.code)
        if isinstance(stop.value.code, str)
        else (stop.value.code, capsys.readouterr().err.splitlines()[-1])
    )
    assert code == status, line
    assert "error: " in line
    assert "\n" not in line
    for word in words:
        assert word in line.replace("\\", "/")
    assert files(tmp_path) == before


@pytest.mark.parametrize("error", ["[Errno 28] No space left on device", "[Errno 13] Denied"])
def test_a_file_that_cannot_be_written_is_named_and_the_old_ones_stay(tmp_path, monkeypatch, error):
    def fail(checkpoint, path):
        path.write_bytes(b"half of it")
        raise OSError(error)

    checkpoint("classifier")(tmp_path)
    before = files(tmp_path)
    monkeypatch.setattr(torch, "save", fail)
    options = ["--dataset=digits", "--limit=64", "--retrain", f"--out={tmp_path}/out"]
    with pytest.raises(SystemExit, match=re.escape(f"error: {error}")):
        run_script(lambda: importlib.import_module("ex4_classifier").main(options))
    assert before.items() <= files(tmp_path).items()


@pytest.mark.slow
def test_a_pipe_that_closes_loses_no_file(out):
    options = f"--dataset=digits --limit=64 --device=cpu --out={out}"
    command = f'"{sys.executable}" "{PROJECT}/ex3_knn.py" {options} | true'
    subprocess.run(command, shell=True, check=True)
    assert (out / "figures/ex3.json").exists()


CHANGES = {
    **{"--epochs": "3", "--batch-size": "7", "--lr": "1", "--seed": "1", "--limit": "9"},
    **{"--noise": "0.1", "--beta": "2", "--latent-size": "9", "--pixels": "7"},
}


@pytest.mark.parametrize("option", CHANGES)
def test_what_changes_results_wants_a_folder_of_its_own(monkeypatch, capsys, option):
    monkeypatch.setattr("ex8_map_denoise.load_data", lambda _: pytest.fail("loaded"))
    for folder in ([], ["--out", str(PROJECT)], ["--out", str(PROJECT / "digits")]):
        with pytest.raises(SystemExit, match="2"):
            importlib.import_module(EX8).main([option, CHANGES[option], *folder])
        assert f"with {option}, give a folder for the results: --out" in capsys.readouterr().err


def test_the_defaults_want_no_folder_and_any_other_folder_will_do(tmp_path, monkeypatch):
    parser = make_parser("A script.", noise=0.25, **vars(RECIPES["vae16"]))
    epochs = RECIPES["vae16"].epochs
    options = read_options(parser, [f"--epochs={epochs}", "--noise=0.25", "--latent-size=16"])
    assert (options.epochs, read_options(parser, []).epochs) == (epochs, None)
    assert read_options(parser, ["--epochs=3", f"--out={tmp_path}"]).out == tmp_path
    monkeypatch.chdir(PROJECT / "tests")
    assert read_options(parser, ["--out=.."]).out == PROJECT
    assert read_options(make_parser(None), []).out is None  # PYTHONOPTIMIZE drops docstrings


def test_a_python_that_is_missing_is_named(tmp_path):
    (tmp_path / "requirements.txt").touch()
    command = ["make", "-f", str(PROJECT / "Makefile"), "PYTHON=python9", "figures"]
    stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert stopped.returncode == 2
    assert "python9 is no Python 3.10 or newer" in stopped.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["requirements.txt"]
