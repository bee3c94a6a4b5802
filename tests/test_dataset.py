"""The nine tensors, the noise, and what is said when MNIST is missing or damaged."""

import shutil
import struct

import pytest
import torch
import torchvision

from dataset import MNIST_HEADERS, DataError, MissingDataError, load_digits, load_mnist


@pytest.fixture
def no_download(monkeypatch):
    """Makes every download fail at once."""
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])


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


def test_mnist(mnist, data_dir):
    assert_nine_tensors(mnist, 60_000, 10_000)
    assert_examples_are_test_images(mnist)
    # The labels as the files have them: a reader that moved one would be off from there on.
    raw = torchvision.datasets.MNIST(data_dir, train=False)
    assert torch.equal(mnist.labels_test, raw.targets)
    small = torch.nn.functional.interpolate(mnist.x_clean_test, size=28, mode="bilinear")
    assert (small[:, 0] - raw.data / 255).abs().mean() < 0.05


def test_noise_is_reproducible_and_as_strong_as_asked(digits):
    again, other = load_digits(), load_digits(seed=1)
    weak = load_digits(noise=0.05)
    assert torch.equal(digits.x_noisy_test, again.x_noisy_test)
    assert not torch.equal(digits.x_noisy_test, other.x_noisy_test)
    assert (weak.x_noisy_test - weak.x_clean_test).std().item() == pytest.approx(0.05, rel=0.02)
    train, test = (getattr(digits, f"x_noisy_{part}")[:360] for part in ("train", "test"))
    noise = torch.stack([train - digits.x_clean_train[:360], test - digits.x_clean_test])
    assert abs(torch.corrcoef(noise.flatten(1))[0, 1]) < 0.01


def test_limit_keeps_the_first_training_images(digits):
    few = load_digits(limit=7)
    assert torch.equal(few.x_clean_train, digits.x_clean_train[:7])
    assert torch.equal(few.labels_train, digits.labels_train[:7])
    assert len(few.x_clean_test) == len(digits.x_clean_test)


def test_missing_mnist_is_one_line_that_says_why_and_where(tmp_path, no_download, capfd):
    with pytest.raises(MissingDataError) as error:
        load_mnist(tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert str(tmp_path / "MNIST" / "raw") in message
    for name in MNIST_HEADERS:
        assert name in message


def fake_mnist(folder):
    """Files with MNIST's headers and sizes, all zeros."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, header in MNIST_HEADERS.items():
        with (raw / name).open("wb") as file:
            file.write(struct.pack(f">{len(header)}I", *header))
            body = 1
            for dimension in header[1:]:
                body *= dimension
            file.truncate(4 * len(header) + body)
    return raw


def test_a_truncated_file_is_named(tmp_path):
    raw = fake_mnist(tmp_path)
    load_mnist(tmp_path)
    path = raw / "t10k-images-idx3-ubyte"
    for size in (path.stat().st_size - 1, 100, 7, 0):
        with path.open("r+b") as file:
            file.truncate(size)
        with pytest.raises(DataError, match=path.name):
            load_mnist(tmp_path)


def test_swapped_and_foreign_files_are_named(tmp_path):
    raw = fake_mnist(tmp_path)
    path = raw / "train-images-idx3-ubyte"
    for content in (raw / "t10k-images-idx3-ubyte", raw / "train-labels-idx1-ubyte", __file__):
        shutil.copy(content, path)
        with pytest.raises(DataError, match=path.name):
            load_mnist(tmp_path)
