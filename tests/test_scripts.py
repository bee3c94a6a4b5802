"""Every script from its options to its files, on a few digits."""

import importlib
import json
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import run_all
from common import metrics
from common.dataset import load_data
from common.plotting import plt
from common.pretrained import read_checkpoint
from common.script import ScriptError, make_parser, read_options
from MAP_template import map_estimate

ROOT = Path(__file__).resolve().parent.parent


def options(folder):
    return ["--dataset=digits", "--limit=64", "--device=cpu", f"--out={folder}"]


@pytest.fixture
def no_figures(monkeypatch):
    """Let the scripts draw their figures but write none."""
    monkeypatch.setattr("common.plotting.save_figure", lambda figure, _: plt.close(figure))


@pytest.fixture
def quick_map(monkeypatch):
    """Make the MAP estimates of exercise 8 quick and rough."""
    monkeypatch.setattr("ex8_map_denoise.FIRST", 20)
    for module in ("ex8_map_denoise", "common.metrics"):
        monkeypatch.setattr(f"{module}.map_estimate", partial(map_estimate, iterations=3))


@pytest.mark.parametrize(
    ("script", "own", "name", "figures"),
    [
        ("ex4_classifier", ["--augment"], "ex4_augmented", ["confusion", "loss"]),
        ("ex8_map_denoise", [], "ex8", ["loss", "denoising", "map_loss"]),
    ],
)
def test_a_script_writes_its_figures_and_numbers_and_says_where(
    out, capsys, quick_map, script, own, name, figures
):
    importlib.import_module(script).main([*options(out), *own])
    written, folder = [f"{name}_{figure}" for figure in figures], out / "figures"
    files = {f"{name}.json", *(f"{w}.{suffix}" for w in written for suffix in ("png", "pdf"))}
    assert {path.name for path in folder.iterdir()} == files
    printed = capsys.readouterr().out.splitlines()
    assert printed[-len(written) - 1 :] == [
        *(f"wrote {folder / w}.png and .pdf" for w in written),
        f"wrote {folder / name}.json",
    ]


@pytest.mark.slow
def test_exercise_8_takes_its_options(out, quick_map, no_figures):
    own = ["--latent-size=32", "--pixels=50", "--epochs=1", "--retrain"]
    own += ["--test-set", "--noise=0.1", "--beta=0.02"]
    importlib.import_module("ex8_map_denoise").main([*options(out), *own])
    settings = read_checkpoint(out / "checkpoints/vae16.pt")["settings"]
    assert (settings["latent_size"], settings["pixels"]) == (32, 50)
    found, tests = (
        json.loads((out / f"figures/{name}.json").read_text()) for name in ("ex8", "ex8_test_set")
    )
    assert len(found["kl_per_unit"]) == 32
    assert (tests["noise"], tests["beta"]) == (0.1, 0.02)
    assert list(tests["test"]) == ["noisy", "output", "output for clean", "MAP"]
    assert tests["test"]["noisy"]["psnr"] == pytest.approx(20, abs=0.1)
    assert list(found["first"]) == ["images", "noisy", "output", "MAP"]


@pytest.mark.slow
def test_a_training_is_that_of_the_options_and_of_no_other_model(out, capsys, no_figures):
    own = ["--epochs", "3", "--batch-size", "16", "--lr", "0.001", "--seed", "7"]
    before = {path: path.read_bytes() for path in out.rglob("*.pt")}
    main = importlib.import_module("ex7_vae").main
    main([*options(out), *own, "--retrain"])
    found = read_checkpoint(out / "checkpoints/vae2.pt")
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.001, "seed": 7, "training_images": 64}
    assert settings.items() <= found["settings"].items()
    assert len(found["history"]["train"]) == 3
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert changed == ["vae2.pt"]
    assert re.findall(r"training the (\w+)", capsys.readouterr().err) == ["vae2"]
    (out / "checkpoints/autoencoder.pt").unlink()
    with pytest.raises(ScriptError, match=r"autoencoder.pt does not exist; python ex1"):
        main([*options(out), "--epochs", "99", "--retrain"])  # before the training


def test_without_mnist_and_without_internet_the_scripts_go_on_with_the_digits(
    tmp_path, offline, capsys, monkeypatch
):
    monkeypatch.setattr("common.dataset.DATA_DIR", tmp_path / "data")
    monkeypatch.setattr("common.dataset.DIGITS", tmp_path / "digits")
    started = []
    for name in {command.split()[0] for command in run_all.EXERCISES}:
        run = partial(lambda name, argv: started.append((name, argv)), name)
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__doc__=None, main=run))
    run_all.main(["--device=cpu"])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"using scikit-learn's digits instead; the results go to {tmp_path / 'digits'}" in line
    expected = [command.split() for command in run_all.EXERCISES]
    assert [[name, *argv[2:]] for name, argv in started] == expected
    assert all(argv[:2] == ["--device=cpu", "--dataset=digits"] for _, argv in started)
    monkeypatch.setattr(sys.modules["ex3_knn"], "main", lambda _: sys.exit(3))
    with pytest.raises(SystemExit, match="3"):
        run_all.main(["--device=cpu"])
    assert len(started) == len(expected) + 2  # exercises 1 and 2
    data_options = read_options(make_parser("A script."), ["--dataset=digits"])
    load_data(data_options)
    assert data_options.out == tmp_path / "digits"


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
