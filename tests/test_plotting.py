"""Names of digits, loss curves, and the files of figures and numbers."""

import json
import math

import pytest
import torch

from common.latent import label_places
from common.plotting import loss_curves, save_figure
from common.script import write_json


def test_a_digit_is_named_where_it_is_and_no_name_covers_another():
    """Digits 0 and 1 share a place; 2 has one of its own and one that it shares with 3."""
    generator = torch.Generator().manual_seed(23)
    h = torch.rand(400, 2, generator=generator) / 5
    h[200:] += torch.tensor([[0.8, 0.8]])
    labels = torch.tensor([0, 1] * 100 + [2] * 60 + [2, 3] * 70)
    h[260:] -= torch.tensor([[0.0, 0.8]])
    places = label_places(h, labels, (0, 0), (1, 1))
    assert sorted(places) == [0, 1, 2, 3]
    for digit, x in places.items():
        assert (h[labels == digit] - torch.tensor(x)).abs().amax(dim=1).min() < 0.05
        assert all(math.dist(x, places[n]) > 2 / 24 for n in places if n != digit)
    assert places[2][1] > 0.8  # where it is alone, though it has fewer latents there


def history(train, test):
    return {"train": [{"loss": x} for x in train], "test": [{"loss": x} for x in test]}


def test_training_loss_stands_mid_epoch_and_test_loss_at_its_end():
    figure = loss_curves(history([9.0, 2.0], [40.0, 2.5, 1.5]), {"loss": "loss"})
    train, test = figure.axes[0].lines
    assert figure.get_figwidth() == pytest.approx(7.8 / 2.54)  # as README says
    assert train.get_xydata().tolist() == [[0.5, 9], [1.5, 2]]
    assert test.get_xydata().tolist() == [[1, 2.5], [2, 1.5]]
    assert (figure.axes[0].get_yscale(), figure.axes[0].get_ylabel()) == ("log", "loss, log axis")
    (ax,) = loss_curves(history([3.0, 2.0], [4.0, 2.5, 1.5]), {"loss": "loss"}).axes
    assert (ax.get_yscale(), ax.get_ylabel()) == ("linear", "loss")


@pytest.mark.slow
def test_figures_and_numbers_are_written_whole(tmp_path):
    folder, figure = tmp_path / "new", loss_curves(history([1.0], [1.0, 2.0]), {"loss": "loss"})
    save_figure(figure, folder / "figure")
    write_json(folder / "ex0.json", {"pi": 3.14159265, "list": [1, None, 2 / 3]})
    png, pdf = ((folder / f"figure.{format}").read_bytes() for format in ("png", "pdf"))
    assert (png[:4], pdf[:4]) == (b"\x89PNG", b"%PDF")
    assert b"/Type3" not in pdf
    numbers = json.loads((folder / "ex0.json").read_text())
    assert numbers == {"pi": 3.142, "list": [1, None, 0.6667]}
    assert len(list(folder.iterdir())) == 3
