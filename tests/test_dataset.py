"""The nine tensors, the noise, and what is said when MNIST is missing or damaged."""

import socket

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import center_of_mass

from common.dataset import SHA256, load_digits, load_image, load_mnist
from common.pretrained import load_model
from common.script import ScriptError


def assert_nine_tensors(data, train, test):
    for part, count in (("train", train), ("test", test), ("example", 10)):
        x_clean, x_noisy, labels = (
            getattr(data, f"{name}_{part}") for name in ("x_clean", "x_noisy", "labels")
        )
        assert x_clean.shape == x_noisy.shape == (count, 1, 32, 32)
        assert x_clean.dtype == x_noisy.dtype == torch.float32
        assert (labels.shape, labels.dtype) == ((count,), torch.int64)
        assert 0 == x_clean.min() < 0.95 < x_clean.max() <= 1
        noise = (x_noisy - x_clean)[:5000]
        assert noise.mean().item() == pytest.approx(0, abs=0.01)
        assert noise.std().item() == pytest.approx(0.25, rel=0.02)
        assert (noise / 0.25).pow(4).mean().item() == pytest.approx(3, rel=0.1), "not Gaussian"
        assert not torch.allclose(noise[0], noise[1], atol=0.1), "two images have the same noise"
    assert data.labels_example.tolist() == list(range(10))
    for name in ("x_clean", "x_noisy", "labels"):
        of_test = getattr(data, f"{name}_test")[data.examples]
        assert torch.equal(getattr(data, f"{name}_example"), of_test), "not of the test images"


def test_digits(digits):
    assert_nine_tensors(digits, 1437, 360)
    counts = [torch.bincount(labels) for labels in (digits.labels_train, digits.labels_test)]
    assert (counts[1] - 0.2 * sum(counts)).abs().max() < 1, "not split by digit"


def test_mnist(mnist, data_dir):
    assert_nine_tensors(mnist, 60_000, 10_000)
    # The labels as the files have them: a reader that moved one would be off from there on.
    raw = data_dir / "MNIST/raw"
    labels = np.fromfile(raw / "t10k-labels-idx1-ubyte", np.uint8, offset=8)
    assert mnist.labels_test.tolist() == labels.tolist()
    images = np.fromfile(raw / "t10k-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
    images = F.interpolate(torch.from_numpy(images[-900:]) / 255, size=32, mode="bilinear")
    torch.testing.assert_close(mnist.x_clean_test[-900:], images, msg="not resized from 28 to 32")
    assert mnist.examples == [10, 14, 1, 18, 19, 15, 11, 17, 61, 12], "not those of the handout"


def test_noise_is_reproducible_and_as_strong_as_asked(digits):
    again, few, weak = load_digits(), load_digits(limit=7), load_digits(noise=0.05)
    assert torch.equal(digits.x_clean_test, again.x_clean_test), "the split is another every time"
    assert torch.equal(digits.x_noisy_test, again.x_noisy_test)
    assert torch.equal(few.x_clean_train, digits.x_clean_train[:7])
    assert torch.equal(few.labels_train, digits.labels_train[:7])
    assert (weak.x_noisy_test - weak.x_clean_test).std().item() == pytest.approx(0.05, rel=0.02)
    train = (digits.x_noisy_train - digits.x_clean_train)[:360]
    test = digits.x_noisy_test - digits.x_clean_test
    assert abs(torch.corrcoef(torch.stack([train, test]).flatten(1))[0, 1]) < 0.01


def test_a_damaged_file_is_named(tmp_path):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for name in SHA256:
        (raw / name).write_bytes(b"cut off")
    with pytest.raises(ScriptError, match=r"train-images-idx3-ubyte is not MNIST's .* delete it"):
        load_mnist(tmp_path)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_given_up_and_the_time_out_reset(tmp_path, monkeypatch):
    before = socket.getdefaulttimeout()
    monkeypatch.setenv("no_proxy", "*")  # a proxy would answer
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [url])
        monkeypatch.setattr("common.dataset.DOWNLOAD_TIMEOUT", 0.1)
        with pytest.raises(ScriptError, match="timed out"):
            load_mnist(tmp_path)
    assert socket.getdefaulttimeout() == before


def draw(mnist, digit):
    """Return the example of a digit, black on white, `(300, 240)`."""
    x = mnist.x_clean_example[digit : digit + 1, :, 4:28, 4:28]
    stroke = F.interpolate(x, size=192, mode="bicubic")[0, 0].clamp(0, 1)
    return 1 - F.pad(stroke, (12, 36, 70, 38)).numpy()


def photograph(x):
    """Return pixels with the noise of a camera."""
    return x + np.random.default_rng(0).normal(0, 0.02, x.shape)


def light(x):
    """Return the light that falls on a page from its lower right corner, from 0.35 to 0.95."""
    rows, columns = np.indices(x.shape)
    return 0.35 + 0.3 * rows / len(x) + 0.3 * columns / len(x[0])


def squared(x):
    rows, columns = np.indices(x.shape)
    return np.where((rows % 20 < 2) | (columns % 20 < 2), 0.75, 1) * x


def on_a_desk(x):
    desk = Image.new("L", (600, 640), 25)  # the sheet is a quarter of it
    desk.paste(Image.fromarray(np.uint8(255 * x)), (190, 160))
    return np.array(desk.rotate(6, fillcolor=25)) / 255


PICTURES = {  # how the pixels come from those of a digit, black on white
    "small": lambda x: x[60::8, ::8],
    "light ink on black": lambda x: 1 - x,
    "dark ink on gray": lambda x: photograph(0.1 + 0.35 * x),
    "light ink on gray": lambda x: photograph(0.9 - 0.35 * x),
    "dark ink on dark gray": lambda x: photograph(0.02 + 0.28 * x),
    "uneven light": lambda x: photograph(light(x) * x),
    "hard shadow": lambda x: photograph(np.where(light(x) > 0.7, 0.9, 0.45) * x),
    "squared page": lambda x: photograph(light(x) * squared(x)),
    "sheet on a dark desk": lambda x: photograph(on_a_desk(light(x) * x)),
    "cut to the digit": lambda x: photograph(x[75:250, 25:195]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read(mnist, tmp_path, name):
    for digit in (2, 5, 7):
        pixels = PICTURES[name](draw(mnist, digit))
        Image.fromarray(np.uint8(255 * pixels.clip(0, 1))).save(tmp_path / "digit.png")
        x = load_image(tmp_path / "digit.png")
        assert (x.shape, x.dtype) == ((1, 1, 32, 32), torch.float32)
        assert 0 <= x.min() < 0.01 < 0.85 < x.max() <= 1, "faint strokes, or noise on the paper"
        assert center_of_mass(x[0, 0].numpy()) == pytest.approx((15.5, 15.5), abs=0.7)
        assert load_model("classifier")(x).argmax() == digit


def test_a_picture_is_turned_as_a_camera_says_and_what_is_transparent_is_paper(mnist, tmp_path):
    upright = Image.fromarray(np.uint8(255 * draw(mnist, 5)))
    exif = Image.Exif()
    exif[0x0112] = 6  # was held upright: to be turned by 90 degrees
    clear = Image.new("RGBA", upright.size)
    clear.paste("black", mask=upright.point(lambda value: 255 - value))
    upright.save(tmp_path / "upright.png")
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    clear.save(tmp_path / "clear.png")
    x = load_image(tmp_path / "upright.png")
    for name in ("turned", "clear"):
        torch.testing.assert_close(load_image(tmp_path / f"{name}.png"), x, msg=name)


def test_ink_that_fills_a_picture_is_reported_and_returned(tmp_path, capsys):
    pixels = np.full((60, 60), 255, np.uint8)
    pixels[5:55, 5:50] = 0
    Image.fromarray(pixels).save(tmp_path / "thick.png")
    assert load_image(tmp_path / "thick.png").shape == (1, 1, 32, 32)
    assert "ink fills most of the picture" in capsys.readouterr().err


def test_a_picture_without_a_digit_is_refused(tmp_path):
    Image.new("L", (50, 50), 200).save(tmp_path / "gray.png")
    with pytest.raises(ScriptError, match=r"gray.png shows no digit"):
        load_image(tmp_path / "gray.png")
