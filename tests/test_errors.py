"""What a student may do wrong: each ends with one line that says so, and leaves no file behind."""

import contextlib
import http.server
import importlib
import re
import threading
from unittest import mock

from common.pretrained import load_checkpoint, write_checkpoint
from common.script import ScriptError, make_parser, read_options, run_script
from common.training import RECIPES

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

EX1, EX2, EX7 = "ex1_autoencoder", "ex2_latent", "ex7_vae"
TRAIN = ["--epochs", "1"]  # in a folder of its own
MNIST, AUTO = (["--dataset", d, "--data-dir", "{tmp}/data"] for d in ("mnist", "auto"))
TERMS = ("loss", "mse", "kl")
HISTORY = {part: {term: [1.0, 0.5] for term in TERMS} for part in ("train", "test")}


def at(tmp, name="autoencoder.pt"):
    return tmp / "checkpoints/digits/limit-64" / name


def checkpoint(name="autoencoder", weights_of=None, file="autoencoder.pt", fill=None, **parts):
    """Prepare a checkpoint `file` of that name, with weights of some model and those parts."""

    def prepare(tmp):
        model = RECIPES[weights_of or name].model()
        if fill is not None:
            torch.nn.init.constant_(next(model.parameters()), fill)
        whole = {
            "name": name,
            "architecture": repr(model),
            "model": model.state_dict(),
            "history": HISTORY,
            "settings": {"dataset": "digits", "torch": str(torch.__version__)},
            **parts,
        }
        kept = {key: value for key, value in whole.items() if value is not None}
        write_checkpoint(at(tmp, file), kept)

    return prepare


def content(change, file="autoencoder.pt"):
    """Prepare a file that is no checkpoint any more."""

    def prepare(tmp):
        checkpoint(file=file)(tmp)
        at(tmp, file).write_bytes(change(at(tmp, file).read_bytes()))

    return prepare


def bare(value):
    """Prepare a checkpoint that is no dictionary."""

    def prepare(tmp):
        at(tmp).parent.mkdir(parents=True)
        torch.save(value, at(tmp))

    return prepare


def pickled_object(tmp):
    at(tmp).parent.mkdir(parents=True)
    torch.save(RECIPES["autoencoder"].model(), at(tmp))


def a_file(name):
    def prepare(tmp):
        path = tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("in the way")

    return prepare


def a_folder(tmp):
    at(tmp).mkdir(parents=True)


def nothing(tmp):
    pass


# what is wrong: script, prepared by, options, exit status, and words that the line must have
CASES = {
    "no epochs": (EX1, nothing, ["--epochs", "0"], 2, ["--epochs", "0"]),
    "epochs without a number": (EX1, nothing, ["--epochs"], 2, ["--epochs"]),
    "epochs with the mark of the end": (EX1, nothing, ["--epochs=--"], 2, ["--epochs", "--"]),
    "unknown device": (EX1, nothing, ["--device", "warp"], 2, ["--device", "warp"]),
    "device of a Mac": (EX1, nothing, ["--device", "mps"], 2, ["--device", "mps", "cpu", "cuda"]),
    "unknown data": (EX1, nothing, ["--dataset", "letters"], 2, ["--dataset", "mnist"]),
    "option of another script": (EX2, nothing, ["--retrain"], 2, ["--retrain"]),
    "a run in another folder": (EX2, nothing, ["--run", "../data"], 2, ["--run", "../data"]),
    "a run named as the data": (EX2, nothing, ["--run", "digits"], 2, ["--run", "digits"]),
    "diverges": (EX1, nothing, ["--epochs", "3", "--lr", "1e6"], 1, ["learning rate below 1e+06"]),
    "checkpoint cut off": (EX2, content(lambda whole: whole[:9999]), [], 1, ["damaged"]),
    "checkpoint that might run code": (EX2, pickled_object, [], 1, ["autoencoder.pt"]),
    "checkpoint of another exercise": (
        EX2,
        checkpoint("classifier"),
        [],
        1,
        ["holds 'classifier'", "delete it"],
    ),
    "checkpoint of another latent size": (
        EX7,
        checkpoint("vae2", weights_of="vae16", file="vae2.pt"),
        [],
        1,
        ["vae2.pt does not fit", "--run"],
    ),
    "checkpoint with empty settings": (EX2, checkpoint(settings={}), [], 1, ["damaged"]),
    "checkpoint with an empty history": (EX1, checkpoint(history={}), [], 1, ["damaged"]),
    "checkpoint with a history of no epoch": (
        EX1,
        checkpoint(history={"train": {"loss": []}, "test": {"loss": [1.0]}}),
        [],
        1,
        ["damaged"],
    ),
    "checkpoint of a VAE without its terms": (
        EX7,
        checkpoint("vae2", file="vae2.pt", history={p: {"loss": [1.0]} for p in HISTORY}),
        [],
        1,
        ["damaged"],
    ),
    "checkpoint is a bare tensor": (EX2, bare(torch.zeros(3)), [], 1, ["not a checkpoint"]),
    "checkpoint with a weight that is no number": (
        EX2,
        checkpoint(fill=float("nan")),
        [],
        1,
        ["not finite", "delete it"],
    ),
    "checkpoint without weights": (EX2, checkpoint(model=None), [], 1, ["not a checkpoint"]),
    "checkpoint of other weights": (EX2, checkpoint(weights_of="vae2"), [], 1, ["does not fit"]),
    "checkpoint is a folder": (EX2, a_folder, [], 1, ["autoencoder.pt"]),
    "checkpoint folder is a file": (EX1, a_file("checkpoints"), TRAIN, 1, ["checkpoints"]),
    "figures folder is a file": (EX1, a_file("figures"), TRAIN, 1, ["figures"]),
    "own figures folder is a file": (EX1, a_file("figures/digits"), TRAIN, 1, ["figures/digits"]),
    "data folder is a file": (EX1, a_file("data"), MNIST, 1, ["data"]),
    "no data where it was said to be": (EX1, nothing, AUTO, 1, ["cannot be downloaded"]),
    "no data, no internet": (EX1, nothing, MNIST, 1, ["cannot be downloaded", "data/README.md"]),
}


def arguments(tmp, own):
    """Options that keep a run on few digits and within `tmp`; `own` come last and so win."""
    where = [f"--figures-dir={tmp}/figures", f"--checkpoint-dir={tmp}/checkpoints"]
    own = [option.replace("{tmp}", str(tmp)) for option in own]
    return [*where, "--device=cpu", "--dataset=digits", "--limit=64", *own]


def files(tmp):
    return {path: path.read_bytes() for path in tmp.rglob("*") if path.is_file()}


def the_one_line(capsys, script, tmp, own):
    """Run a script that fails; return its exit status and the only line about it.

    A usage error is told by argparse, after a line of usage.
    """
    before = files(tmp)
    main = importlib.import_module(script).main
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: main(arguments(tmp, own)))
    code, line = 1, stop.value.code
    others = capsys.readouterr().err.splitlines()
    if stop.value.code == 2:
        (usage, line), code = others, 2
        assert usage.endswith("[options]")
    else:
        assert all(
            re.match("training the |autoencoder(: epoch | from )", other) for other in others
        )
    assert "error: " in line
    assert "\n" not in line
    assert files(tmp) == before
    return code, line.replace("\\", "/")


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_on_one_line_and_leaves_nothing_behind(tmp_path, capsys, offline, case):
    script, prepare, own, status, words = CASES[case]
    prepare(tmp_path)
    code, line = the_one_line(capsys, script, tmp_path, own)
    assert code == status, line
    for word in words:
        assert word in line


@pytest.mark.slow
@pytest.mark.parametrize("own", [["--retrain", *TRAIN], TRAIN], ids=["checkpoint", "figure"])
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
    assert str(tmp_path) in line
    load_checkpoint("autoencoder", at(tmp_path, "epochs-1"))


def test_a_figures_folder_that_cannot_be_written_to_is_named_before_the_work(
    tmp_path, capsys, monkeypatch
):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    code, line = the_one_line(capsys, EX1, tmp_path, TRAIN)
    assert code == 1
    assert "Permission denied" in line
    assert "figures/digits/limit-64/epochs-1" in line
    assert not (tmp_path / "checkpoints").exists()


def test_a_download_that_breaks_off_is_named(tmp_path, monkeypatch):
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
        run_script(lambda: main(arguments(tmp_path, MNIST)))
    server.shutdown()
    server.server_close()
    assert "cannot be downloaded" in stop.value.code


@settings(max_examples=30)
@given(data=st.data())
def test_a_checkpoint_with_changed_bytes_is_refused_or_its_weights_are_unchanged(tmp_path, data):
    checkpoint()(tmp_path)
    before = torch.load(at(tmp_path), weights_only=True)
    changed = bytearray(at(tmp_path).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    at(tmp_path).write_bytes(changed[: data.draw(st.integers(0, len(changed)))])
    with contextlib.suppress(ScriptError):
        weights = load_checkpoint("autoencoder", at(tmp_path).parent)[0].state_dict()
        assert all(map(torch.equal, weights.values(), before["model"].values()))


NUMBERS = ["--epochs", "--batch-size", "--lr", "--seed", "--limit", "--noise"]


@settings(max_examples=100)
@given(
    option=st.sampled_from(NUMBERS),
    text=st.one_of(st.text(max_size=12), st.integers().map(str), st.floats().map(str)),
)
def test_any_text_given_as_a_number_is_a_number_in_range_or_a_usage_error(option, text):
    parser = make_parser("A script.", trains=True, noise=True)
    with mock.patch.object(parser, "exit", side_effect=ScriptError) as end:
        try:
            options = read_options(parser, [f"{option}={text}"])
        except ScriptError:
            status, message = end.call_args.args
            assert (status, f"argument {option}: " in message) == (2, True)
        else:
            value = getattr(options, option[2:].replace("-", "_"))
            assert 0 <= value <= 1e6
            assert value > 0 or option == "--seed"
