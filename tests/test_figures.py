"""What the figures and tables of the scripts show, for data and models that are known.

The models are no networks. A latent is two pixels of the image, and an image that is decoded from a
latent shows it: `h_1` in its left half, `h_2` in its right one. The classifier reads the digit that
one row of pixels spells. So the images, places and numbers of every figure are known.
"""

import functools
import importlib
import math
import re
from types import SimpleNamespace

import pytest
import torch
from matplotlib.colors import to_hex
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from common.dataset import NOISE, Dataset
from common.metrics import psnr
from common.plotting import DIGIT_COLORS, latent_scatter, plt
from common.script import PROJECT
from MAP_template import map_estimate
from models import kl_divergence

pytestmark = pytest.mark.slow
ROW = 4  # of the pixels that spell the digit
LOSSES = [{"loss": loss, "mse": 2 * loss, "kl": 3 * loss} for loss in (9.0, 2.0, 1.0)]
HISTORY = {"train": LOSSES, "test": LOSSES}
VAE_SCALE = 7
DRAWN = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))  # from the prior
RADII = {share: math.sqrt(-2 * math.log(1 - share)) for share in (0.5, 0.9, 0.99)}
EXERCISE_8 = "ex8_map_denoise", "--test-set"


def spell(x, digits, sure=1.0):
    x[:, 0, ROW, :10] = sure * one_hot(digits, 10)
    return x


class Model(torch.nn.Module):
    """An autoencoder or a VAE whose images show their latents, which are those of `scale`."""

    def __init__(self, scale=8):
        super().__init__()
        self.scale = scale
        self.encoder = lambda x: (*self.posterior(x), self.encode(x) + 1)
        self.encoder.posterior = self.posterior

    def posterior(self, x):
        return self.encode(x), torch.tensor([1.0, 7.0]) * x[:, 0, 1, :2] - 3

    def encode(self, x):
        return self.scale * x[:, 0, 0, :2]

    def decode(self, h):
        halves = [h[:, i, None, None, None].expand(-1, 1, 32, 16) / 8 for i in (0, 1)]
        h1, h2 = h.detach().T
        sure = (h2 > 2).float()[:, None]
        return spell(torch.cat(halves, dim=3).clone(), h1.round().clamp(0, 9).long(), sure)

    def reconstruct(self, x):
        return self.decode(self.encode(x))


class Classifier(torch.nn.Module):
    def forward(self, x):
        return 99 * x[:, 0, ROW, :10]


def images_and_labels(labels, seed):
    torch.manual_seed(seed)
    labels = labels[torch.randperm(len(labels))]
    x = torch.rand(len(labels), 1, 32, 32) / 10
    x[:, 0, 0, 0] = (labels + torch.rand(len(labels))) / 10
    x[:, 0, :2, 1], x[:, 0, 1, 0] = torch.rand(len(labels), 2), torch.rand(len(labels)) / 2
    x[labels < 2, 0, 0, labels[labels < 2]] *= torch.arange((labels < 2).sum()) % 2  # half are 0
    x = spell(x, labels)
    spell(x[:4], (labels[:4] + 3) % 10)  # which the classifier misreads
    return x, labels


@pytest.fixture(scope="module")
def data():
    frequent = torch.arange(10).repeat_interleave(torch.arange(2, 12))
    train, test = images_and_labels(9 - frequent, 1), images_and_labels(frequent, 2)
    examples = [(test[1] == digit).nonzero()[-1, 0].item() for digit in range(10)]
    return Dataset("digits", *train, *test, examples)


@pytest.fixture(scope="module")
def run(data):
    """Return a function that runs a script: its figures, its numbers and the cells it prints."""

    def load(name, *_):
        return Classifier() if "classifier" in name else Model(VAE_SCALE if "vae" in name else 8)

    def load_or_train(name, *_, **__):
        return load(name), HISTORY

    @functools.cache
    def run(script, *own):
        module, results = importlib.import_module(script), []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "load_data", lambda _: data)
            patch.setattr(module, "load_model", load, raising=False)
            patch.setattr(module, "load_or_train", load_or_train, raising=False)
            patch.setattr(module, "write_results", lambda _, *found: results.append(found))
            patch.setattr(module, "FIRST", 20, raising=False)
            module.main(["--device=cpu", *own])
        plt.close("all")
        ((figures, numbers, tables),) = results
        cells = {place: cell for t in tables.values() if "|" in t for place, cell in cells_of(t)}
        return SimpleNamespace(figures=figures, cells=cells, tables=tables, **numbers)

    return run


def cells_of(table):
    """Yield the texts of the cells of a table with the names of their row and column."""
    lines = [line.strip("|").split("|") for line in table.splitlines()]
    header, _, *rows = ([cell.strip() for cell in line] for line in lines)
    names = 2 if header[1] == "image" else 1
    for row in rows:
        for column, cell in zip(header[names:], row[names:], strict=True):
            yield frozenset([" ".join(row[:names]), column]), cell.replace(",", "")


def assert_cells(found, line, expected):
    """Compare cells in a row or column of the printed tables, up to the last decimal."""
    for name, value in expected.items():
        cell = found.cells[frozenset([line, str(name)])]
        tolerance = 0.6 / 10 ** len(cell.partition(".")[2])
        number = math.nan if cell == "-" else float(cell)
        assert number == pytest.approx(float(value), abs=tolerance, nan_ok=True), (line, name)


def assert_image_metrics(found, data, images, parts):
    """Compare the table of `image_metrics` of images that are made of the test images."""
    for part, chosen in parts.items():
        clean, labels = data.x_clean_test[chosen], data.labels_test[chosen]
        for name, x in images.items():
            right = Classifier()(x[chosen]).argmax(dim=1) == labels
            expected = {"MSE": mse_loss(x[chosen], clean), "PSNR (dB)": psnr(x[chosen], clean)}
            assert_cells(found, f"{part} {name}", {**expected, "correct (%)": percent(right)})


def assert_points(ax, h, labels):
    """Compare the places and colors of all points of a scatter plot, drawn in any order."""
    scatter = ax.collections[0]
    colors = map(to_hex, scatter.get_facecolors())
    drawn = zip(scatter.get_offsets().tolist(), colors, strict=True)
    expected = zip(h.tolist(), [DIGIT_COLORS[label] for label in labels], strict=True)
    assert sorted(drawn) == sorted(expected)


def shown(ax):
    """Return the gray values of the image in a panel, where 0 is black and 1 white."""
    assert (ax.images[0].get_cmap().name, ax.images[0].get_clim()) == ("gray", (0, 1))
    return torch.from_numpy(ax.images[0].get_array().data)


def assert_rows(figure, rows):
    """Compare every image of a figure, and the names of its rows."""
    panels = [(name, image[0]) for name, images in rows.items() for image in images]
    for ax, (name, image) in zip(figure.axes, panels, strict=True):
        torch.testing.assert_close(shown(ax), image, atol=1e-5, rtol=0, msg=name)
    assert [ax.get_ylabel() for ax in figure.axes[::10]] == list(rows)


def assert_mosaic(ax, rows):
    """Compare images side by side in one panel with those of `rows`, from the top down."""
    mosaic = torch.cat([torch.cat(list(row), dim=1) for row in rows])
    torch.testing.assert_close(shown(ax), mosaic, atol=1e-5, rtol=0)


def assert_confusion(figure, labels, predicted):
    """Compare the counts, their shares of the row and the shades of a confusion matrix."""
    confusion = one_hot(labels, 10).T @ one_hot(predicted, 10)
    share = 100 * confusion / confusion.sum(dim=1, keepdim=True)
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("classified as", "true digit")
    assert figure.get_figwidth() == pytest.approx(12 / 2.54)  # as README says
    torch.testing.assert_close(torch.from_numpy(ax.images[0].get_array().data), share)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    for i, j in confusion.nonzero().tolist():
        percentage = f"\n{share[i, j]:.1f} %".replace("100.0", "100") if share[i, j] >= 10 else ""
        assert written.pop((j, i)) == f"{confusion[i, j]}{percentage}", (i, j)
    assert not written


def bars(figure, name):
    """Return the heights of the bars that the legend gives a name, by their digit."""
    ax = figure.axes[0]
    (line,) = ax.lines
    assert (line.get_label(), set(line.get_ydata()), ax.get_ylim()) == ("chance", {10}, (0, 105))
    (own,) = (container for container in ax.containers if container.get_label() == name)
    return {round(bar.get_x()): bar.get_height() for bar in own}


def percent(right):
    return 100 * right.float().mean().item()


def percent_per_digit(right, labels):
    return {digit: percent(right[labels == digit]) for digit in range(10)}


def grid_places(h):
    """Return the places of the grid over latents, from the lower left corner on."""
    (a0, b0), (a1, b1) = h.amin(dim=0).tolist(), h.amax(dim=0).tolist()
    return torch.cartesian_prod(torch.linspace(b0, b1, 15), torch.linspace(a0, a1, 15)).flip(1)


def test_every_latent_is_drawn_in_the_color_of_the_legend_and_no_digit_over_the_others():
    labels = torch.arange(10).repeat_interleave(2000)
    h = torch.stack([torch.rand(20_000), labels], dim=1)
    figure, ax = plt.subplots()
    latent_scatter(ax, h, labels)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent unit $h_1$", "latent unit $h_2$")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [str(digit) for digit in range(10)]
    handles = [to_hex(handle.get_facecolor()[0]) for handle in legend.legend_handles]
    assert handles == list(DIGIT_COLORS)
    for digit in range(10):
        (order,) = (ax.collections[0].get_offsets()[:, 1] == digit).nonzero()
        assert len(order) == 2000, f"not every {digit} is drawn"
        assert order.mean() == pytest.approx(10_000, abs=700), f"{digit} is below or over others"


def test_exercise_1_shows_clean_images_and_their_reconstructions(run, data):
    found, x, model = run("ex1_autoencoder"), data.x_clean_example, Model()
    rows = {"input": x, "output": model.reconstruct(x)}
    assert_rows(found.figures["ex1_reconstructions"], rows)
    for row, images in (("training", data.x_clean_train), ("test", data.x_clean_test)):
        mse = mse_loss(model.reconstruct(images), images)
        assert_cells(found, f"{row} images", {"images": len(images), "mean squared error": mse})


def test_exercise_2_shows_and_measures_the_latents_of_the_test_images(run, data):
    found, h, labels = run("ex2_latent"), Model().encode(data.x_clean_test), data.labels_test
    for ax in found.figures["ex2_latent"].axes:
        assert_points(ax, h, labels)
        for text in ax.texts:
            own = h[labels == int(text.get_text())]
            assert (own - torch.tensor(text.get_position())).norm(dim=1).min() < 0.5
    low, high = h.quantile(torch.tensor([0.025, 0.975]), dim=0)
    view = torch.cat([low - (high - low) / 20, high]).tolist()
    whole, enlarged = found.figures["ex2_latent"].axes
    for box in (whole.patches[0].get_bbox(), enlarged.viewLim):
        assert box.extents.tolist() == pytest.approx(view), "the enlarged view"
    mean_2, mean_7 = (data.x_clean_test[labels == digit].mean(dim=0) for digit in (2, 7))
    difference = found.ex2["mean_squared_difference_of_mean_images"][2][7]
    assert difference == pytest.approx(mse_loss(mean_2, mean_7).item(), rel=1e-4)
    ten = torch.cdist(h, h).fill_diagonal_(torch.inf).topk(10, largest=False).indices
    alike = percent_per_digit(labels[ten] == labels[:, None], labels)
    assert_cells(found, "10 nearest latents, same digit (%)", alike)
    for i, name in enumerate(("h1 is 0 (%)", "h2 is 0 (%)")):
        assert_cells(found, name, percent_per_digit(h[:, i] == 0, labels))


def test_exercise_3_classifies_by_the_nearest_neighbor_and_knows_chance(run, data):
    found, model = run("ex3_knn"), Model()
    h_train, h = model.encode(data.x_clean_train), model.encode(data.x_clean_test)
    predicted = data.labels_train[torch.cdist(h, h_train).argmin(dim=1)]
    assert_confusion(found.figures["ex3_confusion"], data.labels_test, predicted)
    chance = data.labels_train.bincount() / len(data.labels_train)
    for name, n in (("all test images", len(predicted)), ("first 20 test images", 20)):
        labels = data.labels_test[:n]
        right = predicted[:n] == labels
        accuracy = percent_per_digit(right, labels)
        assert bars(found.figures["ex3_accuracy"], name) == pytest.approx(accuracy, nan_ok=True)
        counts = {"images": n, "correct": right.sum(), "correct by chance": chance[labels].sum()}
        assert_cells(found, name, {**accuracy, "all": percent(right), **counts})


def test_exercise_4_shows_the_confusion_of_the_test_images(run, data):
    found = run("ex4_classifier")
    for part, x, labels in (
        ("training images", data.x_clean_train, data.labels_train),
        ("test images", data.x_clean_test, data.labels_test),
    ):
        logits = Classifier()(x)
        right, loss = logits.argmax(dim=1) == labels, cross_entropy(logits, labels)
        accuracy = {**percent_per_digit(right, labels), "all": percent(right)}
        counts = {"images": len(x), "correct": right.sum(), "cross-entropy (nats)": loss}
        assert_cells(found, part, {**accuracy, **counts})
    assert_confusion(found.figures["ex4_confusion"], labels, logits.argmax(dim=1))


@pytest.mark.parametrize(("script", "scale"), [("ex5_generate", 8), ("ex7_vae", VAE_SCALE)])
def test_the_images_of_a_grid_are_centered_at_its_crosses(run, data, script, scale):
    figure, h = run(script).figures[f"{script[:3]}_grid"], Model(scale).encode(data.x_clean_test)
    left, right = figure.axes
    assert_points(right, h, data.labels_test)
    places = grid_places(h)
    crosses = torch.from_numpy(right.lines[0].get_xydata()).float()
    torch.testing.assert_close(crosses, places, msg="the crosses of the grid")
    assert_mosaic(left, Model().decode(places).view(15, 15, 32, 32).flip(0))
    half = (places[-1] - places[0]) / 28
    view = torch.cat([places[0] - half, places[-1] + half]).tolist()
    x0, x1, y0, y1 = left.images[0].get_extent()
    assert left.images[0].origin == "upper"
    for extents in ([x0, y0, x1, y1], left.viewLim.extents, right.viewLim.extents):
        assert list(extents) == pytest.approx(view)
    figure.draw_without_rendering()
    assert 2.54 * figure.get_figheight() <= 11
    width, height = left.get_window_extent().size / figure.dpi * 25.4 / 15
    assert width == pytest.approx(height, rel=1e-3)
    assert width > 5.5, "millimeters of an image"


def test_exercise_5_counts_what_the_classifier_reads(run, data):
    found, h = run("ex5_generate"), Model().encode(data.x_clean_test)
    places = grid_places(h)
    sure, steps = places[:, 1] > 2, h.amax(dim=0) - h.amin(dim=0)
    cell = torch.cdist(Model().encode(data.x_clean_train) / steps, places / steps).argmin(dim=1)
    near = torch.stack([data.labels_train[cell == i].bincount(minlength=10) for i in range(225)])
    none, purity = near.sum(dim=1) == 0, near.amax(dim=1) / near.sum(dim=1)
    kinds = {"none": none, "over 90 % one digit": purity > 0.9, "mixed": ~none & (purity <= 0.9)}
    for name, chosen in {**kinds, "all": none | ~none}.items():
        counts = {"images": chosen.sum(), "like a digit": sure[chosen].sum()}
        assert_cells(found, name, {**counts, "%": percent(sure[chosen])})
    counts = places[:, 0].round().clamp(0, 9).long()[sure].bincount(minlength=10)
    assert_cells(found, "images", dict(enumerate(counts)))


def test_exercise_6_shows_and_measures_noisy_images_their_outputs_and_latents(run, data):
    found, model, x, x_noisy = run("ex6_denoise"), Model(), data.x_clean_test, data.x_noisy_test
    images = {"noisy": x_noisy, "output": model.reconstruct(x_noisy)}
    rows = {name: images[data.examples] for name, images in {**images, "clean": x}.items()}
    assert_rows(found.figures["ex6_denoising"], rows)
    images["output for clean"] = model.reconstruct(x)
    parts = {"ten examples": data.examples, "all test images": slice(None)}
    assert_image_metrics(found, data, images, parts)
    h, h_noisy, labels = model.encode(x), model.encode(x_noisy), data.labels_test
    panels = found.figures["ex6_latent"].axes
    assert panels[0].get_xlim()[1] == pytest.approx(h[:, 0].quantile(0.975)), "not of clean latents"
    for ax, name, own in zip(panels, ("clean", "noisy"), (h, h_noisy), strict=True):
        assert (ax.get_title(), ax.axis()) == (name, panels[0].axis())
        assert_points(ax, own, labels)
    ten = torch.cdist(h_noisy, h).topk(10, largest=False).indices
    assert list(found.tables.values())[-1] == f"{percent(labels[ten] == labels[:, None]):.1f} %"


def test_exercise_7_shows_the_means_of_the_vae_and_samples_of_the_prior_in_their_order(run, data):
    figures, model, x = run("ex7_vae").figures, Model(VAE_SCALE), data.x_clean_example
    assert_rows(figures["ex7_reconstructions"], {"input": x, "output": model.reconstruct(x)})
    assert [ax.lines[0].get_ydata()[0] for ax in figures["ex7_loss"].axes] == [9, 18, 27]
    for ax in figures["ex7_latent"].axes:
        assert_points(ax, model.encode(data.x_clean_test), data.labels_test)
    assert_mosaic(figures["ex7_prior"].axes[0], model.decode(DRAWN[:48]).view(3, 16, 32, 32))


def test_the_priors_circles_have_the_radii_that_their_legend_says(run):
    ax = run("ex7_vae").figures["ex7_latent"].axes[0]
    for circle, (share, radius) in zip(ax.lines, RADII.items(), strict=True):
        assert circle.get_label().startswith(f"{100 * share:g} %")
        x, y = circle.get_data()
        assert x**2 + y**2 == pytest.approx(radius**2)


def test_exercise_7_measures_the_latents_and_the_samples_of_the_vae(run, data):
    found, model = run("ex7_vae").ex7["VAE"], Model(VAE_SCALE)
    z, log_std = model.posterior(data.x_clean_test)
    confident = DRAWN[:, 1] > 2
    digits = DRAWN[:, 0].round().clamp(0, 9) * confident  # unsure ones are read as 0
    within = z.norm(dim=1, keepdim=True) < torch.tensor(list(RADII.values()))
    for name, value in {
        "kl": kl_divergence(z, log_std).sum(dim=1).mean(),
        "deviation": log_std.mean(dim=0).exp(),
        "mean": (z + 1).mean(dim=0),
        "covariance": z.T.cov(),
        "share_within_prior_radii": within.float().mean(dim=0),
        "confident_share_of_prior": confident.float().mean(),
        "prior_share_per_digit": digits.long().bincount(minlength=10) / 2000,
    }.items():
        torch.testing.assert_close(torch.tensor(found[name]), value, msg=name)


@pytest.mark.parametrize(("name", "scale"), [("autoencoder", 8), ("VAE", VAE_SCALE)])
def test_exercise_7_compares_the_vae_with_the_autoencoder(run, data, name, scale):
    found, model, x, labels = run("ex7_vae"), Model(scale), data.x_clean_test, data.labels_test
    h_train, h = model.encode(data.x_clean_train), model.encode(x)
    right = data.labels_train[torch.cdist(h, h_train).argmin(dim=1)] == labels
    accuracy = percent_per_digit(right, labels)
    assert bars(found.figures["ex7_accuracy"], name) == pytest.approx(accuracy)
    of_prior = found.ex7[name].get("confident_share_of_prior", math.nan)
    expected = {
        "mean squared error": mse_loss(model.decode(h), x),
        "KL divergence (nats)": found.ex7[name].get("kl", math.nan),
        "nearest neighbor correct (%)": percent(right),
        "grid: like a digit (%)": percent(grid_places(h)[:, 1] > 2),
        "samples of the prior: like a digit (%)": 100 * of_prior,
    }
    assert_cells(found, name, {**accuracy, **expected})


def denoised(x_noisy):
    """Return noisy images, the VAE's outputs for them and their MAP estimates."""
    vae = Model(VAE_SCALE)
    _, x_estimate, _ = map_estimate(vae.decode, x_noisy, 2, NOISE**2, vae.encode(x_noisy))
    return {"noisy": x_noisy, "output": vae.reconstruct(x_noisy), "MAP": x_estimate}


def test_exercise_8_shows_both_ways_of_denoising_and_their_psnr(run, data):
    found, clean = run(*EXERCISE_8), data.x_clean_example
    noisy, output, x_estimate = denoised(data.x_noisy_example).values()
    rows = {"noisy": noisy, "VAE output (8a)": output, "MAP estimate (8b)": x_estimate}
    figure = found.figures["ex8_denoising"]
    assert_rows(figure, {**rows, "clean": clean})
    values = [psnr(x[i], clean[i]) for x in rows.values() for i in range(10)]
    captions = [f"{value:.1f} dB" for value in values] + [""] * 10
    assert [ax.get_xlabel() for ax in figure.axes] == captions
    assert found.ex8["map_psnr_of_examples"] == pytest.approx(values[20:], rel=1e-5)


def test_exercise_8_draws_the_map_losses_of_the_examples_from_both_starts(run, data):
    found, vae, x_noisy = run(*EXERCISE_8), Model(VAE_SCALE), data.x_noisy_example
    (ax,) = found.figures["ex8_map_loss"].axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    z = vae.encode(x_noisy)
    for name, start, last in (
        ("start: encoder's mean", z, "last_map_loss_of_examples"),
        ("start: prior's mean, 0", 0 * z, "last_map_loss_from_zero"),
    ):
        *_, losses = map_estimate(vae.decode, x_noisy, 2, NOISE**2, start)
        assert found.ex8[last] == pytest.approx(losses[-1].tolist()), name
        (mean,) = (line for line in ax.lines if line.get_label() == name)
        own = [line for line in ax.lines if line.get_color() == mean.get_color()]
        for line, expected in zip(own, (*losses.T, losses.mean(dim=1)), strict=True):
            assert line.get_xdata()[0] == 1
            assert line.get_ydata() == pytest.approx(expected.numpy()), name


def test_exercise_8_measures_both_ways_on_the_examples_and_on_the_test_images(run, data):
    found = run(*EXERCISE_8)
    parts = {"ten examples": data.examples, "all test images": slice(None)}
    parts["first 20 images"] = slice(20)
    assert_image_metrics(found, data, denoised(data.x_noisy_test), parts)
    assert "MAP" not in found.ex8["test"]
    kl = kl_divergence(*Model(VAE_SCALE).posterior(data.x_clean_test)).mean(dim=0)
    assert kl[0] < kl[1]  # so that an order of their own would differ
    assert found.ex8["kl_per_unit"] == pytest.approx(kl.tolist(), rel=1e-4)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_table_stands_below_the_part_it_answers_and_fits_a_terminal(run, number):
    (script,) = (path.stem for path in PROJECT.glob(f"ex{number}_*.py"))
    for title, table in run(script, *(["--test-set"] if number == 8 else [])).tables.items():
        parts = rf"{number}[a-e]?"
        assert re.match(rf"Exercises? {parts}(?: (?:and|to) {parts})?: ", title)
        assert max(map(len, f"{title}\n{table}".splitlines())) <= 80
