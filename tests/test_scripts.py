"""Every script from its options to its files, on a few digits."""

import importlib
import json
import math
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from conftest import files
from PIL import Image

import run_all
from common import metrics
from common.dataset import load_data
from common.plotting import plt
from common.pretrained import load_model, read_checkpoint
from common.script import PROJECT, make_parser, read_options
from MAP_template import map_estimate


def options(folder):
    return ["--dataset=digits", "--limit=64", "--device=cpu", f"--out={folder}"]


@pytest.fixture
def no_figures(monkeypatch):
    """Let the scripts draw their figures but write none."""
    monkeypatch.setattr("common.plotting.save_figure", lambda figure, _: plt.close(figure))


def test_a_script_writes_its_figures_and_numbers_and_says_where(out, capsys):
    importlib.import_module("ex4_classifier").main([*options(out), "--augment"])
    folder = out / "figures"
    *figures, numbers = (f"ex4_augmented{end}" for end in ("_confusion", "_loss", ".json"))
    images = [f"{figure}.{suffix}" for figure in figures for suffix in ("png", "pdf")]
    assert set(files(folder)) == {numbers, *images}
    assert capsys.readouterr().out.splitlines()[-3:] == [
        *(f"wrote {folder / figure}.png and .pdf" for figure in figures),
        f"wrote {folder / numbers}",
    ]


def test_make_runs_an_exercise_after_those_whose_models_it_uses():
    for goal, expected in (("ex5", "ex1 ex4 ex5"), ("ex4-augment", "ex4 --augment")):
        made = subprocess.run(["make", "-nC", str(PROJECT), goal], capture_output=True, text=True)
        assert re.findall(r"ex\d(?=_\w+\.py)|--augment", made.stdout) == expected.split()


def test_exercise_8_takes_its_options(out, monkeypatch, no_figures):
    for module in ("ex8_map_denoise", "common.metrics"):  # quick and rough
        monkeypatch.setattr(f"{module}.map_estimate", partial(map_estimate, iterations=3))
    own = "--latent-size=32 --pixels=50 --epochs=1 --retrain --test-set --noise=0.1 --beta=0.02"
    importlib.import_module("ex8_map_denoise").main([*options(out), *own.split()])
    found, tests = (
        json.loads((out / f"figures/{name}.json").read_text()) for name in ("ex8", "ex8_test_set")
    )
    assert len(found["kl_per_unit"]) == 32
    assert (tests["noise"], tests["beta"]) == (0.1, 0.02)
    assert list(tests["test"]) == ["noisy", "output", "output for clean", "MAP"]
    assert tests["test"]["noisy"]["psnr"] == pytest.approx(20, abs=0.1)
    assert load_model("vae16", out).decoder.features[0].in_features == 32
    terms = read_checkpoint(out / "checkpoints/vae16.pt")["history"]["test"][-1]
    expected = 50 / 2 * (math.log(2 * math.pi * terms["mse"]) + 1) + terms["kl"]
    assert terms["loss"] == pytest.approx(expected, rel=1e-4), "not the loss of 50 pixels"


def test_a_training_run_is_that_of_the_options_and_of_no_other_model(out, capsys, no_figures):
    own = ["--epochs=3", "--batch-size=16", "--lr=0.001", "--seed=7", "--retrain"]
    before = files(out / "checkpoints")
    importlib.import_module("ex7_vae").main([*options(out), *own])
    found = read_checkpoint(out / "checkpoints/vae2.pt")
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.001, "seed": 7, "training_images": 64}
    assert settings.items() <= found["settings"].items()
    assert len(found["history"]["train"]) == 3
    after = files(out / "checkpoints")
    assert [name for name in after if after[name] != before.get(name)] == ["vae2.pt"]
    assert re.findall(r"training the (\w+)", capsys.readouterr().err) == ["vae2"]


@pytest.mark.slow
def test_without_mnist_and_without_internet_the_scripts_fall_back_to_the_digits(
    tmp_path, offline, capsys, monkeypatch
):
    monkeypatch.setattr("common.dataset.DATA_DIR", tmp_path / "data")
    monkeypatch.setattr("common.dataset.DIGITS", tmp_path / "digits")
    started = []
    expected = [command.split() for command in run_all.EXERCISES]
    for name, *_ in expected:
        run = partial(lambda name, argv: started.append([name, *argv]), name)
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__doc__=None, main=run))
    run_all.main(["--device=cpu"])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"using scikit-learn's digits instead; the results go to {tmp_path / 'digits'}" in line
    given = ["--device=cpu", "--dataset=digits"]
    assert started == [[name, *given, *own] for name, *own in expected]
    monkeypatch.setattr(sys.modules["ex3_knn"], "main", lambda _: sys.exit(3))
    with pytest.raises(SystemExit, match="3"):
        run_all.main(["--device=cpu"])
    assert len(started) == len(expected) + 2  # exercises 1 and 2
    data_options = read_options(make_parser("A script."), ["--dataset=digits"])
    load_data(data_options)
    assert data_options.out == tmp_path / "digits"


def test_the_example_of_the_readme_runs(tmp_path, mnist, monkeypatch):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Use the models from Python")[2].partition("##")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    pixels = (255 * mnist.x_clean_example[7, 0]).byte().numpy()
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels).resize((300, 300)).save("digit.png")
    found = {}
    exec(code, found)
    assert found["classifier"](found["x"]).argmax() == 7
    assert metrics.psnr(found["x_estimate"], found["x"]) > 20  # with noise 12
    assert (tmp_path / "denoised.png").stat().st_size > 300
