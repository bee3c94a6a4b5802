"""What a student may do wrong: each ends with one line that says so, and leaves no file behind."""

import importlib
import re
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch
from conftest import files

from common.script import PROJECT, make_parser, read_options, run_script
from common.training import RECIPES

EX1, EX2, EX7, EX8 = "ex1_autoencoder", "ex2_latent", "ex7_vae", "ex8_map_denoise"
AUTO = "--dataset auto --data-dir {out}/own --out {out}"

# what is wrong: script, options, exit status, and words that the line must have
CASES = {
    "epochs without a number": (EX1, "--epochs", 2, ["--epochs"]),
    "no rate": (EX1, "--lr nan", 2, ["--lr", "nan"]),
    "negative noise": ("ex6_denoise", "--noise=-1", 2, ["argument --noise: -1"]),
    "device of a Mac": (EX1, "--device mps", 2, ["--device", "mps", "cpu"]),
    "no folder": (EX1, "--out=", 2, ["--out"]),
    "folder is a file": (EX1, "--out {here}", 2, ["--out", "folder"]),
    "latents of exercise 7": (EX7, "--out {out} --latent-size 3", 1, ["two", "exercise 8"]),
    "diverges": (EX1, "--out {out} --retrain --lr 1e6 --limit 128", 1, ["has diverged"]),
    "one image": (EX7, "--out {out} --retrain --limit 1", 1, ["the vae2 gives", "more images"]),
    "no model": (EX2, "--out {out}/new", 1, ["autoencoder.pt", "python ex1_autoencoder.py --out"]),
    "another epoch": (EX1, "--out {out} --epochs 3", 1, ["epochs 75, not 3"]),
    "other latents": (EX8, "--out {out} --latent-size 5", 1, ["size 16, not 5", "--retrain"]),
    "no data, no internet": (EX1, AUTO, 1, ["/own/MNIST/raw and cannot", "data/README.md"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_on_one_line_and_leaves_nothing_behind(out, capsys, offline, case):
    script, options, status, words = CASES[case]
    before = files(out)
    own = [option.format(out=out, here=__file__) for option in options.split()]
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: importlib.import_module(script).main(["--dataset=digits", *own]))
    line = stop.value.code
    if status == 2:
        assert line == 2
        line = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(".*error: .*", line)
    for word in words:
        assert word in line.replace("\\", "/")
    assert files(out) == before


@pytest.mark.parametrize("error", ["[Errno 28] No space left on device", "[Errno 13] Denied"])
def test_a_file_that_cannot_be_written_is_named_and_the_old_ones_stay(out, monkeypatch, error):
    def fail(checkpoint, path):
        path.write_bytes(b"half of it")
        raise OSError(error)

    before = files(out)
    monkeypatch.setattr(torch, "save", fail)
    options = ["--dataset=digits", "--limit=64", "--retrain", f"--out={out}"]
    with pytest.raises(SystemExit, match=re.escape(f"error: {error}")):
        run_script(lambda: importlib.import_module("ex4_classifier").main(options))
    assert before.items() <= files(out).items()


def test_a_pipe_that_closes_loses_no_file(out, monkeypatch):
    closed = Mock(**{"write.side_effect": BrokenPipeError("Broken pipe")})
    monkeypatch.setattr(sys, "stdout", closed)
    argv = ["--dataset=digits", "--limit=64", f"--out={out}"]
    with pytest.raises(SystemExit, match="Broken pipe"):
        run_script(lambda: importlib.import_module("ex3_knn").main(argv))
    assert (out / "figures/ex3.json").exists()


@pytest.mark.parametrize("own", [[], [f"--out={PROJECT}/tests/.."], [f"--out={PROJECT}/digits"]])
def test_what_changes_results_wants_a_folder_of_its_own(monkeypatch, capsys, own):
    monkeypatch.setattr("ex8_map_denoise.load_data", lambda _: pytest.fail("loaded"))
    changes = "--epochs=3 --batch-size=7 --lr=1 --seed=1 --limit=9 --latent-size=9 --pixels=7"
    for change in [*changes.split(), "--noise=0.1", "--beta=2"]:
        with pytest.raises(SystemExit, match="2"):
            importlib.import_module(EX8).main([change, *own])
        option = change.partition("=")[0]
        assert f"with {option}, give a folder for the results: --out" in capsys.readouterr().err


def test_the_defaults_want_no_folder_and_any_other_folder_will_do(tmp_path):
    parser = make_parser("A script.", noise=0.25, **vars(RECIPES["vae16"]))
    options = read_options(parser, ["--epochs=30", "--noise=0.25", "--latent-size=16"])
    assert (options.epochs, options.out) == (30, None)
    assert read_options(parser, ["--epochs=3", f"--out={tmp_path}"]).out == tmp_path
    assert read_options(parser, []).epochs is None


def test_a_python_that_is_missing_is_named(tmp_path):
    (tmp_path / "requirements.txt").touch()
    command = ["make", "-f", str(PROJECT / "Makefile"), "PYTHON=python9", "figures"]
    stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert stopped.returncode == 2
    assert "python9 is no Python 3.10 or newer" in stopped.stdout
    assert list(files(tmp_path)) == ["requirements.txt"]
