"""The nine tensors, the noise, and what is said when MNIST is missing or damaged."""

import hashlib
import socket
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from common import dataset
from common.dataset import load_digits, load_image, load_mnist
from common.pretrained import load_model
from common.script import ScriptError


def assert_nine_tensors(data, train, test):
    for part, count in (("train", train), ("test", test), ("example", 10)):
        x_clean, x_noisy = getattr(data, f"x_clean_{part}"), getattr(data, f"x_noisy_{part}")
        labels = getattr(data, f"labels_{part}")
        assert x_clean.shape == x_noisy.shape == (count, 1, 32, 32)
        assert x_clean.dtype == x_noisy.dtype == torch.float32
        assert labels.shape == (count,)
        assert labels.dtype == torch.int64
        assert x_clean.min() == 0
        assert 0.95 < x_clean.max() <= 1
        noise = x_noisy - x_clean
        assert noise.mean().item() == pytest.approx(0, abs=0.01)
        assert noise.std().item() == pytest.approx(0.25, rel=0.02)
        assert (noise / 0.25).pow(4).mean().item() == pytest.approx(3, rel=0.1), "not Gaussian"
        assert not torch.allclose(noise[0], noise[1], atol=0.1), "two images have the same noise"
    assert data.labels_example.tolist() == list(range(10))


def assert_examples_are_test_images(data):
    for x, x_noisy, label in zip(
        data.x_clean_example, data.x_noisy_example, data.labels_example, strict=True
    ):
        (index,) = (data.x_clean_test == x).flatten(1).all(dim=1).nonzero()[0]
        assert data.labels_test[index] == label
        assert torch.equal(data.x_noisy_test[index], x_noisy)


def test_digits(digits):
    assert_nine_tensors(digits, 1437, 360)
    assert_examples_are_test_images(digits)
    ramp = dataset.resize(torch.arange(8.0).expand(1, 8, 8), white=1)[0, 0, 0]
    assert ramp[4:7].tolist() == [0.625, 0.875, 1.125]  # pixels are areas, not corners
    train, test = (set(map(bytes, x.numpy())) for x in (digits.x_clean_train, digits.x_clean_test))
    assert not train & test


def test_mnist(mnist, data_dir):
    from torchvision.datasets import MNIST  # takes seconds to import

    assert_nine_tensors(mnist, 60_000, 10_000)
    assert_examples_are_test_images(mnist)
    # The labels as the files have them: a reader that moved one would be off from there on.
    raw = MNIST(data_dir, train=False)
    assert torch.equal(mnist.labels_test, raw.targets)
    images = raw.data[-900:, None] / 255
    images = torch.nn.functional.interpolate(images, size=32, mode="bilinear")
    torch.testing.assert_close(mnist.x_clean_test[-900:], images, msg="not resized from 28 to 32")
    shown = [10, 14, 1, 18, 19, 15, 11, 17, 61, 12]  # by the handout
    assert torch.equal(mnist.x_clean_example, mnist.x_clean_test[shown])


def test_noise_is_reproducible_and_as_strong_as_asked(digits):
    again = load_digits()
    weak = load_digits(noise=0.05)
    assert torch.equal(digits.x_clean_test, again.x_clean_test), "the split is another every time"
    assert torch.equal(digits.x_noisy_test, again.x_noisy_test)
    assert (weak.x_noisy_test - weak.x_clean_test).std().item() == pytest.approx(0.05, rel=0.02)
    train, test = (getattr(digits, f"x_noisy_{part}")[:360] for part in ("train", "test"))
    noise = torch.stack([train - digits.x_clean_train[:360], test - digits.x_clean_test])
    assert abs(torch.corrcoef(noise.flatten(1))[0, 1]) < 0.01


def test_limit_keeps_the_first_training_images(digits):
    few = load_digits(limit=7)
    assert torch.equal(few.x_clean_train, digits.x_clean_train[:7])
    assert torch.equal(few.labels_train, digits.labels_train[:7])
    assert len(few.x_clean_test) == len(digits.x_clean_test)


def test_missing_mnist_is_one_short_line(tmp_path, offline):
    with pytest.raises(ScriptError) as error:
        load_mnist(tmp_path)
    assert str(tmp_path / "MNIST" / "raw") in str(error.value)
    assert "data/README.md" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_files_pixels_become_numbers_from_0_to_1_beside_its_labels(tmp_path, monkeypatch):
    """MNIST in miniature: three images, of which one is white."""
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    images = struct.pack(">4I", 2051, 3, 28, 28) + bytes(28 * 28) + bytes([255]) * 28 * 28
    images += bytes([51]) * 28 * 28
    for name in dataset.SHA256:
        content = images if "images" in name else struct.pack(">2I", 2049, 3) + bytes([7, 8, 9])
        monkeypatch.setitem(dataset.SHA256, name, hashlib.sha256(content).hexdigest())
        (raw / name).write_bytes(content)
    few, data = load_mnist(tmp_path, limit=2), load_mnist(tmp_path)
    assert [len(few.x_clean_train), len(few.labels_train), len(few.x_clean_test)] == [2, 2, 3]
    assert data.labels_test.tolist() == [7, 8, 9]
    expected = torch.tensor([0, 1, 0.2]).view(3, 1, 1, 1).expand(3, 1, 32, 32)
    torch.testing.assert_close(data.x_clean_train, expected)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(content + b"0")
    with pytest.raises(ScriptError, match="t10k-labels-idx1-ubyte is not MNIST's"):
        load_mnist(tmp_path, limit=1)


def test_a_server_that_does_not_answer_is_given_up_and_the_time_out_reset(tmp_path, monkeypatch):
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [url])
        monkeypatch.setattr("common.dataset.DOWNLOAD_TIMEOUT", 0.1)
        with pytest.raises(ScriptError, match="timed out"):
            load_mnist(tmp_path)
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize("size", [28, 100, 700])
@pytest.mark.parametrize("paper", ["white", "black", "transparent"])
def test_a_picture_of_a_seven_is_read_as_a_seven(tmp_path, size, paper):
    """Drawn in a corner of noisy paper in half shadow, and saved at any size and polarity."""
    ink = (255, 255, 255, 255) if paper == "black" else (0, 0, 0, 255)
    picture = Image.new("RGBA", (size, 2 * size), (0, 0, 0, 0) if paper == "transparent" else paper)
    points = [(size * x, size * y) for x, y in ((0.2, 0.3), (0.7, 0.3), (0.4, 0.95))]
    ImageDraw.Draw(picture).line(points, fill=ink, width=max(2, size // 12), joint="curve")
    rng, pixels = np.random.default_rng(0), np.array(picture).astype(float)
    pixels[..., :3] += rng.normal(0, 8, pixels[..., :1].shape) + np.linspace(-15, 15, size)[:, None]
    Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(tmp_path / "seven.png")
    x = load_image(tmp_path / "seven.png")
    assert (x.shape, x.dtype) == ((1, 1, 32, 32), torch.float32)
    assert 0 <= x.min() < 0.01 < 1 >= x.max()
    assert x.max() > 0.9, "the strokes are faint: noise or shadow on the paper is not removed"
    height, width = ((x[0, 0] > 0.3).any(dim=d).sum().item() for d in (1, 0))
    assert width < 0.92 * height  # as it is drawn
    mass = x[0, 0] / x.sum()
    center = torch.arange(32.0)
    for d in (0, 1):
        assert (mass.sum(dim=d) @ center).item() == pytest.approx(15.5, abs=0.7)
    assert load_model("classifier")(x).argmax() == 7


def test_a_picture_without_a_digit_is_refused(tmp_path):
    Image.new("L", (50, 50), 200).save(tmp_path / "gray.png")
    with pytest.raises(ScriptError, match=r"gray.png shows no digit"):
        load_image(tmp_path / "gray.png")
