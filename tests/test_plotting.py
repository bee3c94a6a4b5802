"""The figures whose geometry carries the meaning, and the files they leave."""

import json
import math

import numpy as np
import pytest
import torch

from common.latent import grid_points, label_places, latent_grid
from common.plotting import (
    grid_figure,
    latent_figure,
    loss_curves,
    save_figure,
)
from common.script import write_json


def test_the_images_of_a_grid_share_the_axes_of_the_latents_and_are_centered_there():
    torch.manual_seed(0)
    h = torch.rand(500, 2) * torch.tensor([4.0, 9.0]) + torch.tensor([0.0, 1.0])
    a, b = latent_grid(h)
    assert len(a) == len(b) == 15
    torch.testing.assert_close(torch.stack([a[0], b[0]]), h.min(dim=0).values)
    torch.testing.assert_close(torch.stack([a[-1], b[-1]]), h.max(dim=0).values)
    images = torch.zeros(225, 1, 32, 32)
    figure = grid_figure(images, a, b, h, torch.zeros(500, dtype=torch.long))
    top, bottom = figure.axes
    crosses = torch.from_numpy(bottom.lines[0].get_xydata()).float()
    torch.testing.assert_close(crosses, grid_points(a, b), msg="the crosses of the grid")
    x0, x1, y0, y1 = top.images[0].get_extent()
    assert top.images[0].origin == "upper"
    for axis, low, high in ((a, x0, x1), (b, y0, y1)):
        centers = low + (torch.arange(15) + 0.5) * (high - low) / 15
        torch.testing.assert_close(centers, axis)
    for ax in (top, bottom):
        assert (*ax.get_xlim(), *ax.get_ylim()) == pytest.approx((x0, x1, y0, y1))
    figure.draw_without_rendering()
    assert 2.54 * figure.get_figheight() <= 11
    width, height = top.get_window_extent().size / figure.dpi * 25.4 / 15
    assert width == pytest.approx(height, rel=1e-3)
    assert width > 5.5, "millimeters of an image"
    for text in bottom.texts:  # between the crosses
        steps = (torch.tensor(text.get_position()) - crosses[0]) / (crosses[-1] - crosses[0]) * 14
        torch.testing.assert_close(steps % 1, torch.tensor([0.5, 0.5]))


def test_the_priors_circles_hold_their_shares_of_its_samples():
    z = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    figure = latent_figure(z, torch.arange(len(z)) % 10, prior=True)
    for ax in figure.axes:
        assert len(ax.collections[0].get_offsets()) == len(z), "not every latent is drawn"
    shown = figure.axes[0].get_legend().get_lines()
    for circle, line, share in zip(figure.axes[0].lines, shown, (0.5, 0.9, 0.99), strict=True):
        radius = np.hypot(*circle.get_data())
        assert np.ptp(radius) < 1e-6
        assert line.get_label().startswith(f"{100 * share:g} %")
        assert line.get_linestyle() == circle.get_linestyle()
        assert (z.norm(dim=1) < radius[0]).float().mean() == pytest.approx(share, abs=0.01)


def test_a_digit_is_named_where_it_is_and_no_name_covers_another():
    """Two clusters at the same place and one that has two, the second one larger."""
    generator = torch.Generator().manual_seed(0)
    h = torch.rand(400, 2, generator=generator) / 5
    h[200:] += torch.tensor([[0.8, 0.8]])
    labels = torch.tensor([0, 1] * 100 + [2] * 150 + [3] * 50)
    h[300:] -= torch.tensor([[0.0, 0.8]])
    places = label_places(h, labels, (0, 0), (1, 1))
    assert sorted(places) == [0, 1, 2, 3]
    for digit, x in places.items():
        assert (h[labels == digit] - torch.tensor(x)).abs().amax(dim=1).min() < 0.05
        assert all(math.dist(x, places[n]) > 2 / 24 for n in places if n != digit)
    assert places[2][1] > 0.8  # 100 of its latents, and none of another digit


def history(train, test):
    return {"train": [{"loss": x} for x in train], "test": [{"loss": x} for x in test]}


def test_training_loss_stands_mid_epoch_and_test_loss_at_its_end():
    figure = loss_curves(history([9.0, 2.0], [40.0, 2.5, 1.5]), {"loss": "loss"})
    train, test = figure.axes[0].lines
    assert train.get_xdata().tolist() == [0.5, 1.5]
    assert test.get_xdata().tolist() == [1, 2]
    assert test.get_ydata().tolist() == [2.5, 1.5]
    assert (figure.axes[0].get_yscale(), figure.axes[0].get_ylabel()) == ("log", "loss, log axis")
    low, high = figure.axes[0].get_ylim()
    assert 1 < low < 1.5
    assert 9 < high < 12  # not the loss before the first epoch
    (ax,) = loss_curves(history([3.0, 2.0], [4.0, 2.5, 1.5]), {"loss": "loss"}).axes
    assert (ax.get_yscale(), ax.get_ylabel()) == ("linear", "loss")


def test_figures_and_numbers_are_written_whole(tmp_path):
    figure = loss_curves(history([1.0], [1.0, 2.0]), {"loss": "loss"})
    save_figure(figure, tmp_path / "new" / "figure")
    write_json(tmp_path / "new" / "ex0.json", {"pi": 3.14159265, "list": [1, None, 2 / 3]})
    for format, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert (tmp_path / "new" / f"figure.{format}").read_bytes().startswith(start)
    assert b"/Type3" not in (tmp_path / "new" / "figure.pdf").read_bytes()
    numbers = json.loads((tmp_path / "new" / "ex0.json").read_text())
    assert numbers == {"pi": 3.142, "list": [1, None, 0.6667]}
    assert len(list((tmp_path / "new").iterdir())) == 3
