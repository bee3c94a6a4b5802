"""Every script from its options to its files, on a few digits."""

import importlib
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from common.pretrained import load_checkpoint

ROOT = Path(__file__).resolve().parent.parent

# script, its own options, the figures it writes, and the names at the top of its json
SCRIPTS = [
    ("ex1_autoencoder", [], ["ex1_reconstructions", "ex1_loss"], {"mse_train", "mse_test"}),
    (
        "ex2_latent",
        [],
        ["ex2_latent"],
        {
            "same_label_share_of_10_neighbors",
            "mean_squared_difference_of_mean_images",
            "mean_pixel_per_digit",
            "clipped_share_per_digit",
            "clipped_share",
        },
    ),
    ("ex3_knn", [], ["ex3_accuracy", "ex3_confusion"], {"test_360"}),
    ("ex4_classifier", [], ["ex4_loss", "ex4_confusion"], {"train", "test", "parameters"}),
    (
        "ex4_classifier",
        ["--augment"],
        ["ex4_augmented_loss", "ex4_augmented_confusion"],
        {"train", "test", "parameters"},
    ),
    (
        "ex5_generate",
        [],
        ["ex5_grid"],
        {
            "images",
            "confident",
            "confident_per_digit",
            "confident_in_occupied_cell",
            "unsure_in_occupied_cell",
        },
    ),
    (
        "ex6_denoise",
        [],
        ["ex6_denoising", "ex6_latent"],
        {"noise", "example", "test", "same_label_share_of_10_clean_neighbors"},
    ),
    (
        "ex7_vae",
        [],
        [
            "ex7_reconstructions",
            "ex7_loss",
            "ex7_latent",
            "ex7_grid",
            "ex7_prior",
            "ex7_accuracy",
        ],
        {"autoencoder", "VAE"},
    ),
    (
        "ex8_map_denoise",
        [],
        ["ex8_loss", "ex8_denoising", "ex8_map_loss"],
        {
            "noise",
            "beta",
            "kl_per_unit",
            "before_standardization",
            "bottleneck",
            "iterations",
            "last_map_loss_of_examples",
            "last_map_loss_from_zero",
            "example",
            "map_psnr_of_examples",
            "test_1000",
        },
    ),
]


def options(folder):
    where = [f"--checkpoint-dir={folder}/checkpoints", f"--figures-dir={folder}/figures"]
    return ["--dataset=digits", "--limit=64", "--device=cpu", *where]


@pytest.fixture
def quick_map(monkeypatch):
    """Make the MAP estimates of exercise 8 quick and rough."""
    ex8 = importlib.import_module("ex8_map_denoise")
    monkeypatch.setattr(ex8, "MEASURED", 20)
    rough = partial(ex8.map_estimate, iterations=3)
    monkeypatch.setattr("common.denoising.map_estimate", rough)


@pytest.mark.parametrize(("script", "own", "figures", "keys"), SCRIPTS)
def test_a_script_writes_its_figures_and_prints_its_numbers(
    checkpoints, tmp_path, capsys, quick_map, script, own, figures, keys
):
    importlib.import_module(script).main([*options(tmp_path), *own])
    written = tmp_path / "figures" / "digits" / "limit-64"
    drawn = {f"{figure}.{suffix}" for figure in figures for suffix in ("png", "pdf")}
    for name in drawn:
        assert (written / name).stat().st_size > 5000
    name = figures[0].rpartition("_")[0]
    assert {path.name for path in written.iterdir()} == {f"{name}.json", *drawn}
    numbers = json.loads((written / f"{name}.json").read_text())
    assert set(numbers) == keys
    printed = capsys.readouterr().out
    assert "| ---" in printed
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 80


def test_the_numbers_printed_are_the_numbers_written(checkpoints, tmp_path, capsys):
    importlib.import_module("ex1_autoencoder").main(options(tmp_path))
    (path,) = tmp_path.rglob("ex1.json")
    printed, numbers = capsys.readouterr().out, json.loads(path.read_text())
    for part in ("train", "test"):
        assert f"{numbers[f'mse_{part}']:.5f}" in printed


def test_noise_and_beta_keep_to_folders_of_their_own(checkpoints, tmp_path, quick_map):
    importlib.import_module("ex8_map_denoise").main(
        [*options(tmp_path), "--test-set", "--noise", "0.1", "--beta", "0.02"]
    )
    (figures,) = (path.parent for path in tmp_path.rglob("ex8.json"))
    assert figures == tmp_path / "figures/digits/limit-64/noise-0.1/beta-0.02"
    numbers = json.loads((figures / "ex8_test_set.json").read_text())
    assert (numbers["noise"], numbers["beta"]) == (0.1, 0.02)
    assert list(numbers["test"]) == ["noisy", "bottleneck", "MAP"]
    assert numbers["test"]["noisy"]["psnr"] == pytest.approx(20, abs=0.1)
    first = json.loads((figures / "ex8.json").read_text())["test_1000"]
    assert list(first) == ["noisy", "bottleneck", "MAP"]


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


def test_only_the_scripts_own_model_is_trained_with_other_options(checkpoints, tmp_path, capsys):
    importlib.import_module("ex7_vae").main([*options(tmp_path), "--epochs", "1"])
    trained = re.findall(r"training the (\w+) on", capsys.readouterr().err)
    assert trained == ["vae2"]


def test_a_second_run_loads_the_checkpoint_and_repeats_the_numbers(tmp_path, monkeypatch):
    main = importlib.import_module("ex1_autoencoder").main
    main([*options(tmp_path), "--epochs", "2"])
    (path,) = tmp_path.rglob("ex1.json")
    first = path.read_text()
    monkeypatch.setattr("common.pretrained.train", lambda *_: pytest.fail("trained again"))
    main([*options(tmp_path), "--epochs", "2"])
    assert path.read_text() == first


def test_folders_are_found_from_anywhere(tmp_path):
    code = "from common.files import *; print(CHECKPOINT_DIR, DATA_DIR, FIGURES_DIR)"
    for cwd, parent in ((tmp_path, ROOT), (ROOT, Path())):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
        names = (parent / name for name in ("checkpoints", "data", "figures"))
        assert done.stdout.split() == [str(name) for name in names]


@pytest.mark.slow
def test_without_mnist_and_without_internet_the_script_goes_on_with_the_digits(tmp_path):
    code = (
        "import sys, torchvision\n"
        "torchvision.datasets.MNIST.mirrors = ['http://127.0.0.1:9/']\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import ex1_autoencoder\n"
        "ex1_autoencoder.main(['--epochs=1', '--limit=64', '--data-dir=data',"
        " '--checkpoint-dir=checkpoints', '--figures-dir=figures'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "cannot be downloaded" in line]
    assert "continuing with scikit-learn's digits" in line
    assert len(line) < 200
    assert (tmp_path / "figures/digits/limit-64/epochs-1/ex1_loss.png").exists()
    assert (tmp_path / "checkpoints/digits/limit-64/epochs-1/autoencoder.pt").exists()


@pytest.mark.slow
def test_a_failing_script_ends_with_one_line_and_status_1(tmp_path):
    (tmp_path / "figures").touch()
    command = [sys.executable, str(ROOT / "ex1_autoencoder.py"), "--dataset", "digits"]
    done = subprocess.run(
        [*command, "--figures-dir", "figures"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ex1_autoencoder.py: error: figures/digits: ")
