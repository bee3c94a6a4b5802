"""Two processes under torchrun: the training and the estimates of one, printed and written once."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import SequentialSampler

import parallel
from ex8_map_denoise import denoise
from models import VAE
from training import RECIPES, UsageError, load_checkpoint, load_or_train, train

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import torch
import ex1_autoencoder, parallel
from dataset import load_digits
from ex8_map_denoise import denoise
from models import VAE
from options import run

def main():
    ex1_autoencoder.main(
        ["--dataset", "digits", "--limit", "96", "--epochs", "3", "--device", "cpu",
         "--precision", "fp32"]
    )
    torch.manual_seed(0)
    estimates = denoise(VAE(16), load_digits().x_noisy_test[:7], 0.06)
    if parallel.rank() == 0:
        torch.save(estimates, "estimates.pt")

run(main)
"""


def test_two_processes_train_and_denoise_like_one(tmp_path, few_digits, digits, cpu):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launch, "--nproc-per-node=2", str(script)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("\\", "/").count("wrote figures/digits/limit-96/ex1.json") == 1
    assert done.stderr.count("epoch  1/3") == 1

    folder = tmp_path / "checkpoints" / "digits" / "limit-96"
    assert [path.name for path in folder.iterdir()] == ["autoencoder.pt"]
    of_two = load_checkpoint("autoencoder", folder)[1]
    assert of_two["settings"]["processes"] == 2
    changes = {"epochs": 3, "precision": "fp32"}
    _, history = load_or_train("autoencoder", few_digits, tmp_path / "one", cpu, **changes)
    for part in ("train", "test"):
        assert of_two["history"][part]["loss"] == pytest.approx(history[part]["loss"], rel=2e-3)

    torch.manual_seed(0)
    x_estimate, losses = denoise(VAE(16), digits.x_noisy_test[:7], 0.06)
    of_two = torch.load(tmp_path / "estimates.pt")
    torch.testing.assert_close(of_two[0], x_estimate, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(of_two[1], losses, atol=1e-2, rtol=1e-3)


def test_a_batch_that_cannot_be_shared_is_a_usage_error(few_digits, cpu, monkeypatch):
    monkeypatch.setattr(parallel, "processes", lambda: 3)
    with pytest.raises(UsageError, match="32 cannot be shared by 3"):
        train(replace(RECIPES["autoencoder"], epochs=1), few_digits, cpu)


def test_processes_share_what_they_evaluate_without_counting_anything_twice(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        share = parallel.Share(SequentialSampler(range(10)), even=False)
        parts.append(list(share))
        assert len(share) == len(parts[-1])
    assert sorted(index for part in parts for index in part) == list(range(10))


def test_the_first_process_alone_writes_and_speaks(tmp_path, monkeypatch, capsys):
    from training import write_whole

    path = tmp_path / "numbers.txt"
    monkeypatch.setenv("RANK", "1")
    write_whole(path, lambda file: file.write_text("second"))
    parallel.say("second")
    assert not path.exists()
    monkeypatch.setenv("RANK", "0")
    write_whole(path, lambda file: file.write_text("first"))
    parallel.say("first")
    assert path.read_text() == "first"
    assert capsys.readouterr().err == "first\n"
