"""Two processes under torchrun: the training of one, printed and written once."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from common import distributed
from common.errors import DataError, UsageError, run_script
from common.pretrained import load_checkpoint, load_or_train

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path, few_digits, cpu):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = ["--dataset=digits", "--limit=96", "--epochs=3", "--device=cpu", "--precision=fp32"]
    folders = [f"--checkpoint-dir={tmp_path}/checkpoints", f"--figures-dir={tmp_path}/figures"]
    done = subprocess.run(
        [*launch, str(ROOT / "ex1_autoencoder.py"), *options, *folders],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ex1.json") == 1
    assert done.stderr.count("epoch  1/3") == 1
    folder = tmp_path / "checkpoints/digits/limit-96/epochs-3/precision-fp32"
    assert [path.name for path in folder.iterdir()] == ["autoencoder.pt"]
    of_two = load_checkpoint("autoencoder", folder)[1]
    assert of_two["settings"]["processes"] == 2
    changes = {"epochs": 3, "precision": "fp32"}
    _, history = load_or_train("autoencoder", few_digits, tmp_path / "one", cpu, **changes)
    for part in ("train", "test"):
        assert of_two["history"][part]["loss"] == pytest.approx(history[part]["loss"], rel=2e-3)


def torchrun(monkeypatch, rank, count):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


def test_a_batch_that_cannot_be_shared_is_a_usage_error(few_digits, cpu, monkeypatch, tmp_path):
    torchrun(monkeypatch, rank=0, count=3)
    monkeypatch.setattr("common.pretrained.setup_distributed", lambda device: device)
    with pytest.raises(UsageError, match="3 processes cannot share batches of 32"):
        load_or_train("autoencoder", few_digits, tmp_path, cpu)


def test_the_first_process_alone_speaks_and_goes_on(monkeypatch, capsys):
    torchrun(monkeypatch, rank=1, count=2)
    distributed.log("second")
    with pytest.raises(SystemExit):
        distributed.cleanup()
    torchrun(monkeypatch, rank=0, count=2)
    distributed.log("first")
    distributed.cleanup()
    assert capsys.readouterr().err == "first\n"
    assert distributed.world_size() == 1


def test_a_usage_error_is_told_by_the_first_process_only(monkeypatch, capsys):
    def fail(error):
        raise error("wrong")

    for rank, error, told in ((0, UsageError, 1), (1, UsageError, 0), (1, DataError, 1)):
        torchrun(monkeypatch, rank, count=2)
        with pytest.raises(SystemExit):
            run_script(partial(fail, error))
        assert capsys.readouterr().err.count("wrong") == told


def test_processes_with_different_data_do_not_train(few_digits, cpu, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "common.pretrained.all_gather", lambda found: [found, {**found, "dataset": "mnist"}]
    )
    with pytest.raises(UsageError, match="different data"):
        load_or_train("autoencoder", few_digits, tmp_path, cpu)


def test_stray_variables_are_no_launch_by_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
