"""Every script from its options to its files, on a few digits."""

import importlib
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from common import metrics, script
from common.plotting import plt
from common.pretrained import load_checkpoint, saved_history

import pytest
import torch
from conftest import SCRIPTS
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def options(folder):
    where = [f"--checkpoint-dir={folder}/checkpoints", f"--figures-dir={folder}/figures"]
    return ["--dataset=digits", "--limit=64", "--device=cpu", *where]


@pytest.fixture
def no_figures(monkeypatch):
    """Let the scripts draw their figures but write none."""
    monkeypatch.setattr("common.plotting.save_figure", lambda figure, _: plt.close(figure))


@pytest.fixture
def quick_map(monkeypatch):
    """Make the MAP estimates of exercise 8 quick and rough."""
    ex8 = importlib.import_module("ex8_map_denoise")
    monkeypatch.setattr(ex8, "FIRST", 20)
    monkeypatch.setattr(ex8, "map_estimate", partial(ex8.map_estimate, iterations=3))
    monkeypatch.setitem(metrics.FEW_STEPS, "iterations", 3)


@pytest.mark.parametrize("command", SCRIPTS)
def test_a_script_writes_its_figures_and_prints_its_numbers(
    checkpoints, tmp_path, capsys, quick_map, command
):
    script, *own = command.split()
    importlib.import_module(script).main([*options(tmp_path), *own])
    written, names = tmp_path / "figures" / "digits" / "limit-64", SCRIPTS[command]
    drawn = {f"{figure}.{suffix}" for figure in names for suffix in ("png", "pdf")}
    (numbers,) = {path.name for path in written.iterdir()} - drawn
    assert numbers == f"{names[0].rpartition('_')[0]}.json"
    assert drawn < {path.name for path in written.iterdir()}
    printed = capsys.readouterr().out
    assert "| ---" in printed
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 80
    *listed, last = [line for line in printed.splitlines() if line.startswith("wrote ")]
    assert sorted(listed) == sorted(f"wrote {written / name}.png and .pdf" for name in names)
    assert last == f"wrote {written / numbers}"


@pytest.mark.slow
def test_noise_and_beta_keep_to_folders_of_their_own(checkpoints, tmp_path, quick_map, no_figures):
    importlib.import_module("ex8_map_denoise").main(
        [*options(tmp_path), "--test-set", "--noise", "0.1", "--beta", "0.02"]
    )
    (figures,) = (path.parent for path in tmp_path.rglob("ex8.json"))
    assert figures == tmp_path / "figures/digits/limit-64/noise-0.1/beta-0.02"
    numbers = json.loads((figures / "ex8_test_set.json").read_text())
    assert (numbers["noise"], numbers["beta"]) == (0.1, 0.02)
    assert list(numbers["test"]) == ["noisy", "bottleneck", "clean input", "MAP"]
    assert numbers["test"]["noisy"]["psnr"] == pytest.approx(20, abs=0.1)
    first = json.loads((figures / "ex8.json").read_text())["first"]
    assert list(first) == ["images", "noisy", "bottleneck", "MAP"]
    assert first["images"] == 20


@pytest.mark.slow
def test_a_training_with_other_options_keeps_to_a_folder_of_its_own(checkpoints, tmp_path):
    main = importlib.import_module("ex1_autoencoder").main
    own = ["--epochs", "3", "--batch-size", "16", "--lr", "0.001", "--seed", "7"]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    main([*options(tmp_path), *own])
    folder = "digits/limit-64/epochs-3/batch-size-16/lr-0.001/seed-7"
    _, found = load_checkpoint("autoencoder", tmp_path / "checkpoints" / folder)
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.001, "seed": 7, "training_images": 64}
    assert settings.items() <= found["settings"].items()
    assert len(found["history"]["train"]["loss"]) == 3
    assert (tmp_path / "figures" / folder / "ex1_loss.png").exists()
    assert not (tmp_path / "figures/digits/limit-64/ex1_loss.png").exists()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_only_the_scripts_own_model_is_trained_with_other_options(
    checkpoints, tmp_path, capsys, no_figures
):
    importlib.import_module("ex7_vae").main([*options(tmp_path), "--epochs", "1"])
    trained = re.findall(r"training the (\w+):", capsys.readouterr().err)
    assert trained == ["vae2"]


@pytest.mark.slow
def test_a_run_keeps_to_its_folders_and_other_exercises_use_its_model(
    checkpoints, tmp_path, capsys, no_figures
):
    run = [*options(tmp_path), "--run", "wide"]
    importlib.import_module("ex1_autoencoder").main([*run, "--epochs", "1"])
    importlib.import_module("ex5_generate").main(run)
    from_folders = re.findall(r"(\w+) from (\S+)", capsys.readouterr().err)
    folder = tmp_path / "checkpoints/digits/limit-64"
    expected = {"autoencoder": folder / "wide", "classifier": folder}
    assert from_folders == [(name, f"{at / name}.pt") for name, at in expected.items()]
    written = tmp_path / "figures/digits/limit-64/wide"
    assert {path.name for path in tmp_path.rglob("*.json")} == {"ex1.json", "ex5.json"}
    assert {path.parent for path in tmp_path.rglob("*.json")} == {written}


def test_a_run_on_mnist_is_drawn_beside_the_committed_model(tmp_path, checkpoints):
    def compared(*own):
        arguments = [f"--figures-dir={tmp_path}", "--run=wide", *own]
        options = script.make_parser("A script.").parse_args(arguments)
        script.set_folders(options)
        return options.compared

    assert compared("--dataset=mnist") == script.CHECKPOINT_DIR
    assert compared("--dataset=digits") is None
    assert compared("--dataset=mnist", "--limit=64") is None
    folder = checkpoints / "digits/limit-64"
    assert saved_history("vae2", folder)["test"]["kl"] == [1.0, 0.5]
    assert saved_history("vae3", folder) is None
    assert saved_history("vae2", None) is None


@pytest.mark.parametrize(("cwd", "parent"), [("elsewhere", ROOT), ("project", Path())])
def test_folders_are_found_from_anywhere(tmp_path, monkeypatch, cwd, parent):
    monkeypatch.chdir(ROOT if cwd == "project" else tmp_path)
    spec = importlib.util.spec_from_file_location("script_again", script.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    folders = (again.CHECKPOINT_DIR, again.DATA_DIR, again.FIGURES_DIR)
    assert folders == tuple(parent / name for name in ("checkpoints", "data", "figures"))


def test_without_mnist_and_without_internet_the_script_goes_on_with_the_digits(
    tmp_path, offline, capsys, monkeypatch
):
    for module in ("script", "dataset"):
        monkeypatch.setattr(f"common.{module}.DATA_DIR", tmp_path / "data")
    where = [f"--checkpoint-dir={tmp_path}/checkpoints", f"--figures-dir={tmp_path}/figures"]
    own = ["--epochs=1", "--limit=64", "--device=cpu"]
    importlib.import_module("ex1_autoencoder").main([*where, *own])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "downloaded" in line]
    assert "using scikit-learn's digits instead" in line
    assert "results go to figures/digits" in line
    assert (tmp_path / "figures/digits/limit-64/epochs-1/ex1_loss.png").exists()
    assert (tmp_path / "checkpoints/digits/limit-64/epochs-1/autoencoder.pt").exists()


@pytest.mark.parametrize(("output", "pipe"), [("ascii", ""), ("utf-8", " | head -1")])
def test_output_that_cannot_be_shown_or_is_not_read_loses_no_file(tmp_path, output, pipe):
    folder = tmp_path / "a figure for Zo\u00eb"
    code = f"""if 1:
        from pathlib import Path
        from common.plotting import plt, write_results
        from common.script import run_script
        results = {{"figure": plt.figure()}}, {{"numbers": {{"one": 1}}}}, *(["table"] * 9999)
        run_script(lambda: write_results(Path({str(folder)!a}), *results))"""
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    command = f'"{sys.executable}" "{tmp_path}/script.py"{pipe}'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": output}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in folder.iterdir()} == {"figure.png", "figure.pdf", "numbers.json"}


def test_ctrl_c_while_python_imports_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for path in ROOT.glob("ex*.py"):
        code = f"import runpy, sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; "
        code += f"runpy.run_path({str(path)!r}, run_name='__main__')"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode != 0
        assert done.stderr == "interrupted\n", path


def test_two_writers_of_one_file_never_meet(tmp_path, monkeypatch):
    path, process = tmp_path / "file", itertools.count()
    monkeypatch.setattr("os.getpid", lambda: next(process))
    replace, left = Path.replace, [b"second"]

    def replace_after_the_other(self, target):
        if left:
            script.write_file(path, left.pop())
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_after_the_other)
    script.write_file(path, b"first")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_gpu_that_is_not_there_is_a_usage_error(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("ex2_latent").main(["--device", "cuda"])
    assert stop.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path, mnist):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Use the models from Python")[2].partition("##")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    pixels = (255 * mnist.x_clean_example[7, 0]).byte().numpy()
    Image.fromarray(pixels).resize((300, 300)).save(tmp_path / "digit.png")
    found = {}
    for name in ("digit.png", "denoised.png"):
        code = code.replace(f'"{name}"', repr(str(tmp_path / name)))
    exec(code, found)
    assert found["classifier"](found["x"]).argmax() == 7
    assert metrics.psnr(found["x_estimate"], found["x"]) > 20  # with noise 12
    assert (tmp_path / "denoised.png").stat().st_size > 300
