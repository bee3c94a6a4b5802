"""A training that is interrupted, killed even, continues to the weights it would have had."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from common.dataset import load_digits
from common.pretrained import load_checkpoint, load_or_train

ROOT = Path(__file__).resolve().parent.parent
KILLS, EPOCHS = 10, 30  # a kill costs an epoch or two

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]


def training(folder: Path) -> None:
    """Train, or continue a training; what a process that may be killed does."""
    torch.set_num_threads(1)
    resume = (folder / "vae2.resume.pt").exists()
    changes = {"epochs": EPOCHS, "batch_size": 32}
    data, cpu = load_digits(limit=64), torch.device("cpu")
    load_or_train("vae2", data, folder, cpu, resume=resume, **changes)


def test_a_training_killed_ten_times_ends_with_the_weights_of_one_left_alone(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["common.pretrained", "sklearn.datasets", "sklearn.model_selection", "torch._dynamo"]
    )

    def start(folder):
        process = context.Process(target=training, args=(folder,))
        process.start()
        return process

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process, moments_of_epochs = start(alone), {}
    while process.is_alive():
        for state in alone.glob("vae2.resume.pt"):
            with contextlib.suppress(FileNotFoundError):
                moments_of_epochs[state.stat().st_mtime_ns] = time.monotonic()
        time.sleep(0.005)
    first, last = min(moments_of_epochs.values()), max(moments_of_epochs.values())
    epoch = (last - first) / EPOCHS
    moments = random.Random(0)
    state = killed / "vae2.resume.pt"
    for _ in range(KILLS):
        seen, process = state.exists() and state.stat().st_mtime_ns, start(killed)
        while not (state.exists() and state.stat().st_mtime_ns != seen):
            time.sleep(0.005)
            assert process.is_alive(), "ended too early"
        time.sleep(moments.uniform(0, 1.5) * epoch)  # into the next epoch, or the one after it
        process.kill()
        process.join()
    start(killed).join()
    (model, of_one), (model_again, of_many) = (load_checkpoint("vae2", f) for f in (alone, killed))
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, model_again.state_dict()[name]), name
    assert of_one["history"] == of_many["history"]
    assert len(of_one["history"]["train"]["loss"]) == EPOCHS
    assert [path.name for path in killed.iterdir()] == ["vae2.pt"]


def test_ctrl_c_says_on_one_line_how_to_continue_and_resume_continues(tmp_path):
    command = [sys.executable, str(ROOT / "ex1_autoencoder.py"), "--dataset", "digits"]
    command += ["--limit", "96", "--epochs", "20", f"--figures-dir={tmp_path}/figures"]
    command += [f"--checkpoint-dir={tmp_path}/checkpoints"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("epoch  3/"):
            process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert lines[-1].startswith("ex1_autoencoder.py: error: interrupted; ")
    assert "ex1_autoencoder.py --resume" in lines[-1]
    done = subprocess.run(
        [*command, "--resume"], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "epoch  2/20" not in done.stderr
    assert "epoch 20/20" in done.stderr
    (folder,) = tmp_path.glob("checkpoints/digits/*/*")
    assert [path.name for path in folder.iterdir()] == ["autoencoder.pt"]


def test_a_kill_in_the_middle_of_a_save_leaves_the_old_file_and_no_litter(
    tmp_path, few_digits, cpu
):
    load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=1)
    path = tmp_path / "autoencoder.pt"
    before = path.read_bytes()
    code = (
        f"import os, signal, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from common.files import atomic_write\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"atomic_write(Path({str(path)!r}), b'half')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode != 0
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # what the killed process had begun
    (tmp_path / ".autoencoder.resume.pt.part").touch()
    load_or_train("autoencoder", few_digits, tmp_path, cpu, retrain=True, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["autoencoder.pt"]
