"""Every script from its options to its files, on a few digits; and how each says what is wrong."""

import importlib
import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dataset import MNIST_HEADERS
from options import run

ROOT = Path(__file__).resolve().parent.parent

QUICK = ["--epochs", "2"]

# script, its own options, the figures it writes, and the names at the top of its json
SCRIPTS = [
    ("ex1_autoencoder", QUICK, ["ex1_reconstructions", "ex1_loss"], {"mse_train", "mse_test"}),
    (
        "ex2_latent",
        [],
        ["ex2_latent"],
        {
            "same_label_share_of_10_neighbours",
            "clipped_share_per_digit",
            "clipped_share",
            "h_min",
            "h_max",
        },
    ),
    ("ex3_knn", [], ["ex3_accuracy", "ex3_confusion"], {"test_360"}),
    ("ex4_classifier", QUICK, ["ex4_loss", "ex4_confusion"], {"train", "test", "parameters"}),
    (
        "ex4_classifier",
        ["--augment", *QUICK],
        ["ex4_augmented_loss", "ex4_augmented_confusion"],
        {"train", "test", "parameters"},
    ),
    (
        "ex5_generate",
        [],
        ["ex5_grid"],
        {
            "h1",
            "h2",
            "images",
            "confident",
            "confident_per_digit",
            "confident_in_occupied_cell",
            "unsure_in_occupied_cell",
            "confident_main_digit_share",
            "unsure_main_digit_share",
        },
    ),
    ("ex6_denoise", [], ["ex6_denoising", "ex6_latent"], {"noise", "example", "test", "latent"}),
    (
        "ex7_vae",
        QUICK,
        [
            "ex7_reconstructions",
            "ex7_loss",
            "ex7_latent",
            "ex7_grid",
            "ex7_comparison",
            "ex7_accuracy",
        ],
        {"autoencoder", "VAE"},
    ),
    (
        "ex8_map_denoise",
        QUICK,
        ["ex8_bottleneck", "ex8_map", "ex8_map_loss", "ex8_beta"],
        {
            "noise",
            "beta",
            "bottleneck",
            "iterations",
            "last_map_loss",
            "last_map_loss_plain",
            "beta_sweep",
            "example",
        },
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


def options(folder, limit=64):
    where = ["--checkpoint-dir", f"{folder}/checkpoints", "--figures-dir", f"{folder}/figures"]
    return ["--dataset", "digits", "--limit", str(limit), *where]


@pytest.mark.parametrize(("script", "own", "figures", "keys"), SCRIPTS)
def test_a_script_writes_its_figures_and_prints_its_numbers(
    folder, capsys, monkeypatch, script, own, figures, keys
):
    monkeypatch.setattr("ex8_map_denoise.SWEPT", 5)
    importlib.import_module(script).main([*options(folder), *own])
    written = folder / "figures" / "digits" / "limit-64"
    for figure in figures:
        assert (written / f"{figure}.png").stat().st_size > 5000
    name = figures[0].removesuffix("_" + figures[0].split("_")[-1])
    numbers = json.loads((written / f"{name}.json").read_text())
    assert set(numbers) == keys
    printed = capsys.readouterr().out
    assert "-----" in printed
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert max(map(len, printed.replace(str(folder), "").splitlines())) <= 80


def test_another_noise_keeps_to_its_own_folder(folder):
    main = importlib.import_module("ex6_denoise").main
    main(options(folder))
    figures = folder / "figures/digits/limit-64"
    usual = (figures / "ex6.json").read_bytes()
    main([*options(folder), "--noise", "0.1"])
    numbers = json.loads((figures / "noise-0.1/ex6.json").read_text())
    assert numbers["noise"] == 0.1
    assert numbers["test"]["noisy"]["psnr"] == pytest.approx(20, abs=0.1)
    assert (figures / "ex6.json").read_bytes() == usual


def test_other_balances_trade_reconstruction_against_the_kl_divergence(folder, capsys, monkeypatch):
    ex7 = importlib.import_module("ex7_vae")
    monkeypatch.setattr(ex7, "BALANCE_EPOCHS", 8)
    ex7.main([*options(folder), "--balance"])
    figures = folder / "figures/digits/limit-64"
    assert (figures / "ex7_balance.png").stat().st_size > 5000
    numbers = json.loads((figures / "ex7_balance.json").read_text())
    assert (numbers["epochs"], numbers["training_images"]) == (8, 64)
    points = numbers["points"]
    assert [point["kl_weight"] for point in points] == list(ex7.BALANCES)
    assert points[0]["kl"] > points[2]["kl"] > points[-1]["kl"]
    assert f"{points[2]['mse']:.5f}" in capsys.readouterr().out


def test_the_whole_test_set_and_other_noise_and_beta(folder, monkeypatch):
    ex8 = importlib.import_module("ex8_map_denoise")
    monkeypatch.setattr(ex8, "MEASURED", 7)
    monkeypatch.setattr(ex8, "map_estimate", partial(ex8.map_estimate, iterations=2))
    ex8.main([*options(folder), "--test-set", "--noise", "0.1", "--beta", "0.02"])
    figures = folder / "figures/digits/limit-64/noise-0.1/beta-0.02"
    numbers = json.loads((figures / "ex8_test_set.json").read_text())
    assert (numbers["noise"], numbers["beta"]) == (0.1, 0.02)
    assert numbers["test"].keys() >= {"noisy", "clipped to [0, 1]", "bottleneck", "MAP"}
    assert numbers["test"]["noisy"]["psnr"] == pytest.approx(20, abs=0.1)
    assert len(set(numbers["worst"]["image"])) == len(numbers["worst"]["label"]) == 10
    assert (figures / "ex8_worst.png").stat().st_size > 5000
    assert [row["noise"] for row in numbers["noise_levels"]] == list(ex8.NOISE_LEVELS)
    for row in numbers["noise_levels"]:
        assert row["noisy"] == pytest.approx(-20 * math.log10(row["noise"]), abs=0.3)
    assert json.loads((figures / "ex8.json").read_text())["beta"] == 0.02


def test_the_numbers_printed_are_the_numbers_written(folder, capsys):
    importlib.import_module("ex1_autoencoder").main(options(folder))
    numbers = json.loads((folder / "figures/digits/limit-64/ex1.json").read_text())
    assert f"{numbers['mse_test']:.5f}" in capsys.readouterr().out


def test_a_second_run_loads_the_checkpoint_and_repeats_the_numbers(tmp_path, monkeypatch):
    main = importlib.import_module("ex1_autoencoder").main
    main([*options(tmp_path), "--epochs", "2"])
    (path,) = tmp_path.rglob("ex1.json")
    first = path.read_text()
    monkeypatch.setattr("training.train", lambda *_: pytest.fail("trained again"))
    main([*options(tmp_path), "--format", "pdf"])
    assert path.read_text() == first
    assert (path.parent / "ex1_loss.pdf").exists()


def test_training_options_reach_the_training(tmp_path):
    main = importlib.import_module("ex1_autoencoder").main
    settings = ["--epochs", "3", "--batch-size", "16", "--lr", "0.001", "--seed", "7"]
    main([*options(tmp_path), *settings])
    (path,) = tmp_path.rglob("autoencoder.pt")
    first = path.read_bytes()
    from training import load_checkpoint

    found = load_checkpoint("autoencoder", path.parent)[1]
    assert found["settings"]["epochs"] == len(found["history"]["train"]["loss"]) == 3
    assert found["settings"]["batch_size"] == 16
    assert found["settings"]["lr"] == 0.001
    assert found["settings"]["seed"] == 7
    assert found["settings"]["training_images"] == 64
    main([*options(tmp_path), "--retrain", "--epochs", "1"])
    assert path.read_bytes() != first


def test_without_mnist_and_without_internet_the_script_goes_on_with_the_digits(tmp_path):
    code = (
        "import sys, torchvision\n"
        "torchvision.datasets.MNIST.mirrors = ['http://127.0.0.1:9/']\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import ex1_autoencoder\n"
        "ex1_autoencoder.main(['--epochs', '1'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "could not be downloaded" in line]
    assert "train-images-idx3-ubyte" in line
    assert "digits" in line
    assert (tmp_path / "figures/digits/ex1_reconstructions.png").exists()
    assert (tmp_path / "checkpoints/digits/autoencoder.pt").exists()
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["digits"]


def fake_idx_files(folder):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_HEADERS:
        (raw / name).write_bytes(b"not an idx file")


def test_a_failing_script_ends_with_one_line_and_status_1(tmp_path):
    fake_idx_files(tmp_path)
    command = [sys.executable, str(ROOT / "ex1_autoencoder.py"), "--data-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ex1_autoencoder.py: error:")
    assert "train-images-idx3-ubyte" in line
    assert not (tmp_path / "figures").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="windows need no DISPLAY there")
@pytest.mark.parametrize("script", ["ex5_generate", "ex7_vae"])
def test_explore_without_a_display_says_so(folder, capsys, monkeypatch, script):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    main = importlib.import_module(script).main
    with pytest.raises(SystemExit) as stop:
        run(lambda: main([*options(folder), "--explore"]))
    assert stop.value.code == 2
    assert "display" in capsys.readouterr().err.splitlines()[-1]
