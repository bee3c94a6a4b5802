"""The figures whose geometry carries the meaning, and the files they leave."""

import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.backend_bases import MouseEvent

from metrics import codes_per_cell
from plotting import (
    GridView,
    confusion_figure,
    explorer,
    grid_figure,
    grid_points,
    image_rows,
    latent_grid,
    loss_curves,
    save_figure,
    save_numbers,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_every_decoded_image_is_centred_at_its_latent_on_the_scatters_axes():
    """A decoder that paints its own coordinates: `a` in an image's left half, `b` in its right."""
    torch.manual_seed(0)
    h = torch.rand(500, 2) * torch.tensor([4.0, 9.0]) + torch.tensor([0.0, 1.0])
    a, b = latent_grid(h)
    assert len(a) == len(b) == 15
    torch.testing.assert_close(torch.stack([a[0], b[0]]), h.min(dim=0).values)
    torch.testing.assert_close(torch.stack([a[-1], b[-1]]), h.max(dim=0).values)
    torch.testing.assert_close(a.diff(), a.diff()[:1].expand(14))
    images = grid_points(a, b)[:, None, None].repeat_interleave(16, dim=3).expand(-1, 1, 32, 32)
    images = images.clone()
    images[:, :, :16] += 100  # the upper half of every image is brighter
    figure = grid_figure(GridView(images, a, b, h, torch.zeros(500, dtype=torch.long)))
    left, right = figure.axes
    (mosaic,) = left.images
    x0, x1, y0, y1 = mosaic.get_extent()
    pixels = mosaic.get_array()
    rows, columns = pixels.shape
    assert (rows, columns) == (15 * 32, 15 * 32)
    assert mosaic.origin == "upper"

    def pixel_at(x, y):
        return pixels[int((y1 - y) / (y1 - y0) * rows), int((x - x0) / (x1 - x0) * columns)]

    for x in a.tolist():
        for y in b.tolist():
            dx, dy = (a[1] - a[0]).item() / 8, (b[1] - b[0]).item() / 8
            assert pixel_at(x - dx, y - dy) == pytest.approx(x, abs=1e-5)
            assert pixel_at(x + dx, y - dy) == pytest.approx(y, abs=1e-5)
            assert pixel_at(x - dx, y + dy) == pytest.approx(x + 100, abs=1e-3)
    for axis in (left, right):
        assert axis.get_xlim() == pytest.approx((x0, x1))
        assert axis.get_ylim() == pytest.approx((y0, y1))


def test_codes_are_counted_in_the_cell_of_their_grid_point():
    a, b = torch.linspace(0, 14, 15), torch.linspace(0, 28, 15)
    points = grid_points(a, b)
    near = points + torch.tensor([0.4, -0.9])
    assert torch.equal(codes_per_cell(near, a, b), torch.ones(225, dtype=torch.long))
    counts = codes_per_cell(points[[7, 7, 200]], a, b)
    assert counts[7] == 2
    assert counts[200] == 1
    assert counts.sum() == 3


def test_image_rows_show_every_image_in_its_place():
    rows = {name: torch.rand(10, 1, 32, 32) for name in ("noisy", "output", "clean")}
    figure = image_rows(rows)
    assert len(figure.axes) == 30
    for ax, image in zip(figure.axes, torch.cat(list(rows.values())), strict=True):
        assert (ax.images[0].get_array().data == image[0].numpy()).all()
        assert ax.images[0].get_clim() == (0, 1)
    assert [figure.axes[row * 10].get_ylabel() for row in range(3)] == list(rows)


def history(train, test):
    return {"train": {"loss": train}, "test": {"loss": test}}


def test_training_loss_stands_mid_epoch_and_test_loss_at_its_end():
    figure = loss_curves(history([3.0, 2.0], [4.0, 2.5, 1.5]), {"loss": "loss"})
    train, test = figure.axes[0].lines
    assert train.get_xdata().tolist() == [0.5, 1.5]
    assert test.get_xdata().tolist() == [0, 1, 2]


def test_confusion_figure_bears_a_digit_without_images():
    confusion = torch.eye(10, dtype=torch.long)
    confusion[3, 3] = 0
    figure = confusion_figure(confusion)
    assert figure.axes[0].images[0].get_array()[3].sum() == 0


@pytest.mark.parametrize(("format", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures_and_numbers_are_written_whole(tmp_path, format, start):
    figure = loss_curves(history([1.0], [1.0, 2.0]), {"loss": "loss"})
    save_figure(figure, tmp_path / "new", "figure", format)
    save_numbers({"pi": 3.14159265, "list": [1, None, 2 / 3]}, tmp_path / "new", "ex0")
    assert (tmp_path / "new" / f"figure.{format}").read_bytes().startswith(start)
    numbers = json.loads((tmp_path / "new" / "ex0.json").read_text())
    assert numbers == {"pi": 3.14159, "list": [1, None, 0.666667]}
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_the_explorer_decodes_where_the_pointer_is_and_a_click_pins():
    h = torch.rand(100, 2) * 4
    view = GridView(torch.zeros(0), *latent_grid(h), h, torch.arange(100) % 10)
    mean = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(mean.weight, 0.5)
    torch.nn.init.zeros_(mean.bias)
    figure = explorer(view, lambda z: mean(z).detach().view(-1, 1, 1, 1).expand(-1, 1, 32, 32))
    figure.canvas.draw()
    latents, pointer, pinned = figure.axes

    def send(name, axes, place):
        x, y = axes.transData.transform(place)
        event = MouseEvent(name, figure.canvas, x, y, button=1)
        figure.canvas.callbacks.process(name, event)
        return [axes.images[0].get_array().mean() for axes in (pointer, pinned)]

    assert send("motion_notify_event", latents, (1, 2)) == pytest.approx([1.5, 0], abs=1e-3)
    assert "1.00, 2.00" in pointer.get_title()
    assert send("button_press_event", latents, (2, 3)) == pytest.approx([1.5, 2.5], abs=1e-3)
    assert latents.lines[-1].get_xydata() == pytest.approx(torch.tensor([[2, 3]]), abs=1e-3)
    assert send("motion_notify_event", latents, (3, 3)) == pytest.approx([3, 2.5], abs=1e-3)
    assert send("motion_notify_event", pointer, (9, 9)) == pytest.approx([3, 2.5], abs=1e-3)
    assert send("button_press_event", pinned, (9, 9)) == pytest.approx([3, 2.5], abs=1e-3)
    figure.canvas.toolbar = SimpleNamespace(mode="zoom rect")
    assert send("button_press_event", latents, (1, 1)) == pytest.approx([3, 2.5], abs=1e-3)
    figure.canvas.toolbar = None
    assert send("button_press_event", latents, (1, 1)) == pytest.approx([3, 1], abs=1e-3)
