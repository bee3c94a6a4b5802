"""What a student may do wrong: each ends with one line that says so, and leaves no file behind."""

import contextlib
import http.server
import importlib
import os
import struct
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset import MNIST_HEADERS, DataError, check_idx_file
from models import Autoencoder
from options import make_parser, run
from training import (
    RECIPES,
    CheckpointError,
    TrainingError,
    alone,
    load_checkpoint,
    load_or_train,
    save_checkpoint,
)

HISTORY = {part: {"loss": [1.0, 0.5]} for part in ("train", "test")}
ON_DIGITS = {"dataset": "digits"}


def idx_files(folder: Path, change=lambda name, content: content) -> Path:
    """Files that look like MNIST's, all images black, each changed by `change`."""
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, header in MNIST_HEADERS.items():
        body = 1
        for dimension in header[1:]:
            body *= dimension
        content = change(name, struct.pack(f">{len(header)}I", *header) + bytes(body))
        if content is not None:
            (raw / name).write_bytes(content)
    return raw


def one_file(name, change):
    """Prepare a data folder in which `name` alone is not what it should be."""
    return lambda tmp: idx_files(
        tmp, lambda other, content: change(content) if other == name else content
    )


def swapped(tmp):
    raw = idx_files(tmp)
    train, test = raw / "train-images-idx3-ubyte", raw / "t10k-images-idx3-ubyte"
    train.rename(raw / "other")
    test.rename(train)
    (raw / "other").rename(test)


def checkpoint(name="autoencoder", weights_of=None, file="autoencoder.pt", **parts):
    """Prepare a checkpoint `file` of that name, with weights of some model and those parts."""

    def prepare(tmp):
        own = RECIPES[weights_of or name].model().state_dict()
        content = {"name": name, "model": own, "history": HISTORY, "settings": ON_DIGITS, **parts}
        folder(tmp).mkdir(parents=True)
        torch.save(
            {key: value for key, value in content.items() if value is not None}, at(tmp, file)
        )

    return prepare


def folder(tmp):
    return tmp / "checkpoints" / "digits" / "limit-64"


def at(tmp, name="autoencoder.pt"):
    return folder(tmp) / name


def content(data):
    def prepare(tmp):
        folder(tmp).mkdir(parents=True)
        at(tmp).write_bytes(data)

    return prepare


def half_a_checkpoint(tmp):
    checkpoint()(tmp)
    at(tmp).write_bytes(at(tmp).read_bytes()[:10_000])


def pickled_object(tmp):
    folder(tmp).mkdir(parents=True)
    torch.save(RECIPES["autoencoder"].model(), at(tmp))


def unfinished(**settings):
    def prepare(tmp):
        folder(tmp).mkdir(parents=True, exist_ok=True)
        found = {"dataset": "digits", "training_images": 64, "processes": 1, "epochs": 9}
        found |= {"batch_size": 32, "lr": 0.004, "seed": 0, "precision": "float32", **settings}
        found = {key: value for key, value in found.items() if value is not None}
        state = {"name": "autoencoder", "model": RECIPES["autoencoder"].model().state_dict()}
        torch.save(
            {**state, "history": HISTORY, "settings": found}, at(tmp, "autoencoder.resume.pt")
        )

    return prepare


def damaged_state(tmp):
    folder(tmp).mkdir(parents=True)
    at(tmp, "autoencoder.resume.pt").write_bytes(b"PK\3\4 broken")


def a_file(*names):
    def prepare(tmp):
        path = tmp.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("in the way")

    return prepare


def a_folder(tmp):
    at(tmp).mkdir(parents=True)


def nothing(tmp):
    pass


EX1, EX2, EX6 = "ex1_autoencoder", "ex2_latent", "ex6_denoise"
EX7, EX8 = "ex7_vae", "ex8_map_denoise"
TRAIN = ["--epochs", "1"]
MNIST = ["--dataset", "mnist", "--data-dir", "{tmp}/data"]
IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

# what is wrong: script, prepared by, options, exit status, and words that the line must have
CASES = {
    "no epochs": (EX1, nothing, ["--epochs", "0"], 2, ["--epochs", "0"]),
    "negative epochs": (EX1, nothing, ["--epochs", "-2"], 2, ["--epochs", "-2"]),
    "half an epoch": (EX1, nothing, ["--epochs", "0.5"], 2, ["--epochs", "whole number"]),
    "epochs in words": (EX1, nothing, ["--epochs", "ten"], 2, ["--epochs", "ten"]),
    "too many epochs": (EX1, nothing, ["--epochs", "1e99"], 2, ["--epochs"]),
    "epochs without a number": (EX1, nothing, ["--epochs"], 2, ["--epochs"]),
    "no batch": (EX1, nothing, ["--batch-size", "0"], 2, ["--batch-size"]),
    "negative batch": (EX1, nothing, ["--batch-size", "-3"], 2, ["--batch-size", "-3"]),
    "no learning rate": (EX1, nothing, ["--lr", "0"], 2, ["--lr"]),
    "negative learning rate": (EX1, nothing, ["--lr", "-0.1"], 2, ["--lr", "-0.1"]),
    "learning rate not a number": (EX1, nothing, ["--lr", "nan"], 2, ["--lr", "nan"]),
    "learning rate infinite": (EX1, nothing, ["--lr", "inf"], 2, ["--lr", "inf"]),
    "learning rate with a comma": (EX1, nothing, ["--lr", "0,01"], 2, ["--lr", "0,01"]),
    "no images": (EX1, nothing, ["--limit", "0"], 2, ["--limit"]),
    "limit in words": (EX1, nothing, ["--limit", "many"], 2, ["--limit", "many"]),
    "negative seed": (EX1, nothing, ["--seed", "-1"], 2, ["--seed"]),
    "seed too large": (EX1, nothing, ["--seed", str(2**31)], 2, ["--seed"]),
    "unknown device": (EX1, nothing, ["--device", "warp"], 2, ["--device", "warp"]),
    "absent device": (EX1, nothing, ["--device", "cuda:77"], 2, ["--device", "cuda:77"]),
    "unknown data": (EX1, nothing, ["--dataset", "letters"], 2, ["--dataset", "mnist"]),
    "unknown format": (EX1, nothing, ["--format", "gif"], 2, ["--format", "pdf"]),
    "unknown precision": (EX1, nothing, ["--precision", "fp8"], 2, ["--precision", "bf16"]),
    "unknown option": (EX1, nothing, ["--epoch-count", "3"], 2, ["--epoch-count", "--help"]),
    "option of another script": (EX2, nothing, ["--retrain"], 2, ["--retrain"]),
    "a word too many": (EX1, nothing, ["train"], 2, ["train"]),
    "no noise": (EX6, nothing, ["--noise", "0"], 2, ["--noise"]),
    "negative noise": (EX8, nothing, ["--noise", "-0.25"], 2, ["--noise"]),
    "noise not a number": (EX8, nothing, ["--noise", "nan"], 2, ["--noise"]),
    "too much noise": (EX8, nothing, ["--noise", "1e30"], 2, ["--noise", "1e30"]),
    "no beta": (EX8, nothing, ["--beta", "0"], 2, ["--beta"]),
    "resume and retrain": (EX1, nothing, ["--resume", "--retrain"], 2, ["--resume", "--retrain"]),
    "nothing to resume": (EX1, nothing, ["--resume"], 2, ["resume", "autoencoder.resume.pt"]),
    "trained already": (EX1, checkpoint(), ["--epochs", "3"], 2, ["--epochs", "--retrain"]),
    "interrupted before": (EX1, unfinished(), [], 2, ["ex1_autoencoder.py --resume", "--retrain"]),
    "interrupted, other script": (EX2, unfinished(), [], 2, ["ex1_autoencoder.py --resume"]),
    "resume with other epochs": (EX1, unfinished(), ["--resume", *TRAIN], 2, ["epochs 9, not 1"]),
    "resume with other images": (
        EX1,
        unfinished(training_images=7),
        ["--resume"],
        2,
        ["training images 7, not 64"],
    ),
    "resume from nothing whole": (EX1, damaged_state, ["--resume"], 1, ["resume.pt", "--retrain"]),
    "resume, older version": (EX1, unfinished(lr=None), ["--resume"], 1, ["has no lr"]),
    "resume, another version": (EX1, unfinished(), ["--resume"], 1, ["does not fit", "--retrain"]),
    "diverges": (EX1, nothing, ["--epochs", "3", "--lr", "1e6"], 1, ["learning rate below 1e+06"]),
    "checkpoint cut off": (EX2, half_a_checkpoint, [], 1, ["autoencoder.pt", "damaged"]),
    "checkpoint empty": (EX2, content(b""), [], 1, ["autoencoder.pt", "damaged"]),
    "checkpoint random": (
        EX2,
        content(bytes(range(256)) * 40),
        [],
        1,
        ["autoencoder.pt", "damaged"],
    ),
    "checkpoint is text": (EX2, content(b"hello\n"), [], 1, ["autoencoder.pt", "damaged"]),
    "checkpoint that might run code": (EX2, pickled_object, [], 1, ["autoencoder.pt"]),
    "checkpoint of another exercise": (EX2, checkpoint("classifier"), [], 1, ["'classifier'"]),
    "checkpoint of another latent size": (
        EX7,
        checkpoint("vae2", weights_of="vae16", file="vae2.pt"),
        [],
        1,
        ["vae2.pt", "(32, 1024), expected (4, 1024)"],
    ),
    "checkpoint of the other VAE": (EX7, checkpoint("vae16", file="vae2.pt"), [], 1, ["'vae16'"]),
    "checkpoint of other data": (
        EX2,
        checkpoint(settings={"dataset": "mnist"}),
        [],
        1,
        ["mnist", "expected digits"],
    ),
    "checkpoint of an older layout": (EX2, checkpoint(settings=None), [], 1, ["has no settings"]),
    "checkpoint without weights": (EX2, checkpoint(model=None), [], 1, ["holds no weights"]),
    "checkpoint of other weights": (EX2, checkpoint(weights_of="classifier"), [], 1, ["has no "]),
    "checkpoint is a folder": (EX2, a_folder, [], 1, ["autoencoder.pt"]),
    "checkpoint folder is a file": (EX1, a_file("checkpoints"), TRAIN, 1, ["checkpoints"]),
    "figures folder is a file": (EX1, a_file("figures"), TRAIN, 1, ["figures"]),
    "own figures folder is a file": (
        EX1,
        a_file("figures", "digits"),
        TRAIN,
        1,
        ["figures/digits"],
    ),
    "header cut off": (EX1, one_file(IMAGES, lambda c: c[:9]), MNIST, 1, [IMAGES, "header"]),
    "images cut off": (EX1, one_file(IMAGES, lambda c: c[:-1]), MNIST, 1, [IMAGES, "expected"]),
    "labels cut off": (EX1, one_file(LABELS, lambda c: c[:5000]), MNIST, 1, [LABELS, "expected"]),
    "file empty": (EX1, one_file(LABELS, lambda c: b""), MNIST, 1, [LABELS]),
    "file too long": (EX1, one_file(LABELS, lambda c: c + b"x"), MNIST, 1, [LABELS, "expected"]),
    "foreign file": (EX1, one_file(IMAGES, lambda c: b"GIF89a" * 99), MNIST, 1, [IMAGES]),
    "labels for images": (EX1, one_file(IMAGES, lambda c: c[8:]), MNIST, 1, [IMAGES]),
    "training and test swapped": (EX1, swapped, MNIST, 1, [IMAGES, "header"]),
    "data folder is a file": (EX1, a_file("data"), MNIST, 1, ["data"]),
    "one file missing, no internet": (EX1, one_file(LABELS, lambda c: None), MNIST, 1, [LABELS]),
    "no data, no internet": (EX1, nothing, MNIST, 1, [IMAGES, "could not be downloaded"]),
}


@pytest.fixture
def offline(monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


def arguments(tmp, own):
    """Options that keep a run on few digits and within `tmp`; `own` come last and so win."""
    where = [f"--figures-dir={tmp}/figures", f"--checkpoint-dir={tmp}/checkpoints"]
    return [
        *where,
        "--device=cpu",
        "--dataset=digits",
        "--limit=64",
        *(option.replace("{tmp}", str(tmp)) for option in own),
    ]


def files(tmp):
    return {path: path.read_bytes() for path in tmp.rglob("*") if path.is_file()}


def the_one_line(capsys, script, tmp, own):
    """Run a script that fails; gives its exit status and the only line about it."""
    before = files(tmp)
    main = importlib.import_module(script).main
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(arguments(tmp, own)))
    complaints = [
        line
        for line in capsys.readouterr().err.splitlines()
        if not line.startswith(("training the ", "epoch "))
    ]
    assert len(complaints) == 1, complaints
    assert "error: " in complaints[0]
    assert files(tmp) == before
    return stop.value.code, complaints[0].replace("\\", "/")


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_on_one_line_and_leaves_nothing_behind(tmp_path, capsys, offline, case):
    script, prepare, own, status, words = CASES[case]
    prepare(tmp_path)
    code, line = the_one_line(capsys, script, tmp_path, own)
    assert code == status, line
    for word in words:
        assert word in line


def test_two_runs_never_train_the_same_checkpoint_at_once(tmp_path, capsys):
    for prepare in (nothing, unfinished()):
        prepare(tmp_path)
        with alone(at(tmp_path)):
            code, line = the_one_line(capsys, EX1, tmp_path, TRAIN)
        assert code == 1
        assert "another run" in line
    at(tmp_path, "autoencoder.resume.pt").unlink()
    importlib.import_module(EX1).main(arguments(tmp_path, TRAIN))
    assert [path.name for path in folder(tmp_path).iterdir()] == ["autoencoder.pt"]


@pytest.mark.parametrize("own", [["--retrain", *TRAIN], []], ids=["checkpoint", "figure"])
def test_a_full_disk_is_named_and_the_old_files_stay(tmp_path, capsys, own):
    resource = pytest.importorskip("resource")  # no Windows
    importlib.import_module(EX1).main(arguments(tmp_path, TRAIN))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # no file may be larger
    try:
        code, line = the_one_line(capsys, EX1, tmp_path, own)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "too large" in line.lower()
    load_checkpoint("autoencoder", folder(tmp_path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, capsys):
    (tmp_path / "figures").mkdir(mode=0o500)
    code, line = the_one_line(capsys, EX1, tmp_path, TRAIN)
    assert code == 1
    assert "figures" in line


def test_a_download_that_breaks_off_is_named(tmp_path, capsys, monkeypatch):
    class BreaksOff(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "9912422")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b" + bytes(5000))

        def log_message(self, *args):
            pass

    from torchvision import datasets

    server = http.server.HTTPServer(("127.0.0.1", 0), BreaksOff)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    main = importlib.import_module(EX1).main
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(arguments(tmp_path, MNIST)))
    server.shutdown()
    server.server_close()
    assert stop.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "could not be downloaded" in line
    assert IMAGES in line


@pytest.mark.parametrize("name", ["autoencoder", "classifier", "vae2"])
def test_a_model_that_collapses_is_named_and_never_saved(
    tmp_path, cpu, few_digits, monkeypatch, name
):
    whole, _ = load_or_train(name, few_digits, tmp_path, cpu, epochs=1)
    before = files(tmp_path)
    start = type(whole).start

    def dead(self, x):
        start(self, x)
        for parameter in self.parameters():
            parameter.data.zero_()

    monkeypatch.setattr(type(whole), "start", dead)
    with pytest.raises(TrainingError, match=r"after epoch 1 .*(same|ignored).*--seed"):
        load_or_train(name, few_digits, tmp_path, cpu, retrain=True, epochs=3, lr=1e-9)
    assert files(tmp_path) == before


def test_a_collapse_leaves_no_state_to_go_on_from(tmp_path, cpu, few_digits, monkeypatch):
    answers = [None, "every image comes out the same"]  # after the first and the second epoch
    monkeypatch.setattr(Autoencoder, "collapse", lambda self, x: answers.pop(0))
    with pytest.raises(TrainingError, match="after epoch 2 every image"):
        load_or_train("autoencoder", few_digits, tmp_path, cpu, epochs=3)
    assert files(tmp_path) == {}


def test_one_dead_latent_unit_of_the_autoencoder_is_named(digits):
    model = RECIPES["autoencoder"].model()
    model.start(digits.x_clean_train[:500])
    with torch.no_grad():
        assert model.collapse(digits.x_clean_train[:500]) is None
        latent = model.encoder.layers[-1]
        model.encoder.layers[-1] = torch.nn.Sequential(latent, OnlyTheFirst())
        assert "latent unit 2" in model.collapse(digits.x_clean_train[:500])


class OnlyTheFirst(torch.nn.Module):
    def forward(self, h):
        return h * torch.tensor([1.0, 0.0]).view(1, 1, 2, 1)


def test_a_vae_may_leave_some_units_unused_but_not_all_but_one(digits):
    model = RECIPES["vae16"].model()
    x = digits.x_clean_train[:200]
    model.start(x)
    last = model.encoder.layers[-1]
    with torch.no_grad():
        for live, collapsed in ((16, False), (2, False), (1, True)):
            for unit in range(live, 16):
                for row in (unit, 16 + unit):  # its mean and its log standard deviation
                    last.weight[row], last.bias[row] = 0, 0
            assert bool(model.collapse(x)) == collapsed


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_checkpoint_with_changed_bytes_is_refused_or_read_but_never_crashes(tmp_path, data):
    path = tmp_path / "autoencoder.pt"
    save_checkpoint(path, "autoencoder", RECIPES["autoencoder"].model(), HISTORY, ON_DIGITS)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(CheckpointError):
        load_checkpoint("autoencoder", tmp_path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=64))
def test_no_small_file_passes_for_one_of_mnist(tmp_path, content):
    path = tmp_path / LABELS
    path.write_bytes(content)
    with pytest.raises(DataError, match=LABELS):
        check_idx_file(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    option=st.sampled_from(["--epochs", "--batch-size", "--lr", "--seed", "--limit", "--noise"]),
    text=st.one_of(st.text(max_size=12), st.integers().map(str), st.floats().map(str)),
)
def test_any_text_given_as_a_number_is_a_number_in_range_or_a_usage_error(option, text, capsys):
    parser = make_parser("A script.", trains=True, noise=True)
    with contextlib.suppress(SystemExit):
        options = parser.parse_args([f"{option}={text}"])
        value = getattr(options, option[2:].replace("-", "_"))
        assert 0 <= value <= 2**31
        assert value > 0 or option == "--seed"
        return
    assert f"argument {option}: " in capsys.readouterr().err
