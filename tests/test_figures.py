"""What the figures and tables of the scripts show, for data and models that are known.

The models are no networks. A latent is two pixels of the image, and an image that is decoded from a
latent shows it: `h_1` in its left half, `h_2` in its right one. The classifier reads the digit that
one row of pixels spells. So the images, places and numbers of every figure are known.
"""

import functools
import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from matplotlib.colors import to_hex
from torch.nn.functional import cross_entropy, one_hot

from common.dataset import Dataset
from common.metrics import psnr
from common.plotting import (
    COLORS,
    DIGIT_COLORS,
    accuracy_bars,
    confusion_figure,
    latent_scatter,
    map_loss_figure,
    plt,
)
from MAP_template import map_estimate, map_loss

ROW = 4  # of the pixels that spell the digit
LOSSES = [{"loss": loss, "mse": 2 * loss, "kl": loss} for loss in (9.0, 2.0, 1.0)]
HISTORY = {"train": LOSSES, "test": LOSSES}
VAE_SCALE = 7


def spell(x, digits, sure=1.0):
    x[:, 0, ROW, :10] = sure * one_hot(digits, 10)
    return x


class Model:
    """An autoencoder or a VAE whose images show their latents, which are those of `scale`."""

    def __init__(self, scale=8):
        self.scale = scale
        self.encoder = lambda x: (*self.posterior(x), self.encode(x) + 1)
        self.encoder.posterior = self.posterior

    def parameters(self):
        return [torch.zeros(7)]

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


class Classifier:
    def __call__(self, x):
        return 99 * x[:, 0, ROW, :10]

    def parameters(self):
        return [torch.zeros(5)]


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
def run(data, tmp_path_factory):
    """Return a function that runs a script: its figures, its numbers and the cells it prints.

    The VAE has other latents than the autoencoder.
    """
    folder = tmp_path_factory.mktemp("figures")

    def load(name, *_):
        return Classifier() if "classifier" in name else Model(VAE_SCALE if "vae" in name else 8)

    def load_or_train(name, *_, **__):
        return load(name), HISTORY

    @functools.cache
    def run(script, *own):
        module, results = importlib.import_module(script), []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("common.dataset.load_digits", lambda **_: data)
            patch.setattr(module, "load_model", load, raising=False)
            patch.setattr(module, "load_or_train", load_or_train, raising=False)
            patch.setattr(module, "write_results", lambda _, *found: results.append(found))
            patch.setattr(module, "FIRST", 20, raising=False)
            module.main(["--dataset=digits", "--device=cpu", f"--out={folder}", *own])
        ((figures, numbers, tables),) = results
        exercise = f"Exercise {script[2]}", f"Exercises {script[2]}"
        assert all(title.startswith(exercise) for title in tables)
        printed = [line for pair in tables.items() for text in pair for line in text.splitlines()]
        assert max(map(len, printed)) <= 80
        lines = "\n".join(tables.values())
        cells = {place: cell for t in tables.values() if "|" in t for place, cell in cells_of(t)}
        return SimpleNamespace(figures=figures, cells=cells, printed=lines, **numbers)

    return run


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def cells_of(table):
    """Yield the cells of a table with the names of their row and column."""
    lines = [line.strip("|").split("|") for line in table.splitlines() if "|" in line]
    header, _, *rows = ([cell.strip() for cell in line] for line in lines)
    names = 2 if header[1] == "image" else 1
    for row in rows:
        for column, cell in zip(header[names:], row[names:], strict=True):
            yield (" ".join(row[:names]), column), float(cell.replace(",", "").replace("-", "nan"))


def points(ax):
    """Return the colored points of a scatter plot, in an order of their own."""
    scatter = ax.collections[0]
    colors = map(to_hex, scatter.get_facecolors())
    return sorted((*map(float, xy), c) for xy, c in zip(scatter.get_offsets(), colors, strict=True))


def expected_points(h, labels):
    return sorted((*xy, DIGIT_COLORS[label]) for xy, label in zip(h.tolist(), labels, strict=True))


def shown(ax):
    """Return the gray values of the image in a panel, where 0 is black and 1 white."""
    assert (ax.images[0].get_cmap().name, ax.images[0].get_clim()) == ("gray", (0, 1))
    return torch.from_numpy(ax.images[0].get_array().data)


def assert_rows(figure, **rows):
    """Compare every image of a figure, and the names of its rows."""
    axes = iter(figure.axes)
    for name, images in rows.items():
        for column, image in enumerate(images):
            ax = next(axes)
            assert column or ax.get_ylabel() == name
            named = f"{name}, column {column}"
            torch.testing.assert_close(shown(ax), image[0], atol=1e-5, rtol=0, msg=named)
    assert not list(axes)


def confusion_of(labels, predicted):
    pairs = list(zip(labels.tolist(), predicted.tolist(), strict=True))
    return [[pairs.count((i, j)) for j in range(10)] for i in range(10)]


def assert_confusion(figure, confusion):
    ax = figure.axes[0]
    shown = {text.get_position(): int(text.get_text().split()[0]) for text in ax.texts}
    assert shown == {(j, i): n for i, row in enumerate(confusion) for j, n in enumerate(row) if n}


def bars(figure):
    """Return the heights of the bars, from the left, by the name that the legend gives them."""
    ax = figure.axes[0]
    (line,) = ax.lines
    assert (line.get_label(), set(line.get_ydata()), ax.get_ylim()) == ("chance", {10}, (0, 105))
    assert line.get_zorder() < ax.patches[0].get_zorder()
    found = {
        bar.get_label(): [b.get_height() for b in sorted(bar, key=lambda b: b.get_x())]
        for bar in ax.containers
    }
    written = [text.get_text() for text in ax.texts]
    assert written == [
        "" if math.isnan(height) else f"{height:.0f}" for own in found.values() for height in own
    ]
    return found


def assert_cells(found, expected, tolerance=0.006):
    """Compare cells of the printed tables, by their row and column."""
    for place, value in expected.items():
        assert found.cells[place] == pytest.approx(float(value), abs=tolerance, nan_ok=True), place


def percent(right):
    return 100 * right.float().mean().item()


def nearest(h_train, labels_train, h):
    return labels_train[torch.cdist(h, h_train).argmin(dim=1)]


def test_a_point_has_the_color_of_its_digit_and_none_is_drawn_over_the_others():
    h, labels = torch.rand(500, 2), torch.arange(10).repeat_interleave(50)
    figure, ax = plt.subplots()
    latent_scatter(ax, h, labels)
    assert points(ax) == expected_points(h, labels)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent unit $h_1$", "latent unit $h_2$")
    (legend,) = figure.legends
    found = {
        text.get_text(): to_hex(handle.get_facecolor()[0])
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    assert found == {str(digit): color for digit, color in enumerate(DIGIT_COLORS)}
    colors = [to_hex(color) for color in ax.collections[0].get_facecolors()]
    for color in DIGIT_COLORS:
        order = [place for place, found in enumerate(colors) if found == color]
        assert sum(order) / len(order) == pytest.approx(250, abs=60), color


def test_bars_stand_at_their_digits_with_their_names_and_the_level_of_chance():
    values = {"first": list(range(10)), "second": list(range(50, 60))}
    figure = accuracy_bars(values, chance=10)
    assert bars(figure) == values
    for container, color in zip(figure.axes[0].containers, COLORS, strict=False):
        assert to_hex(container[0].get_facecolor()) == to_hex(color)
        assert all(abs(bar.get_center()[0] - i) < 0.4 for i, bar in enumerate(container))
    assert figure.axes[0].get_xlabel() == "digit"


def test_a_confusion_matrix_counts_digits_in_rows_and_shades_the_shares_of_a_row():
    confusion = torch.zeros(10, 10, dtype=torch.long)
    confusion[2, 7], confusion[2, 2], confusion[7, 7] = 3, 1, 5
    figure = confusion_figure(confusion)
    assert_confusion(figure, confusion.tolist())
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("classified as", "digit")
    share = ax.images[0].get_array()
    assert (share[2, 7], share[2, 2], share[7, 7], share.sum()) == (75, 25, 100, 200)
    found = {text.get_text(): text.get_color() for text in ax.texts}
    assert found == {"3\n75.0 %": "white", "1\n25.0 %": "black", "5\n100.0 %": "white"}
    rare = 999 * torch.eye(10, dtype=torch.long)
    rare[4, 9] = 1
    assert_confusion(confusion_figure(rare), rare.tolist())  # 0.1 % is written, too


def test_the_map_loss_is_drawn_for_each_image_and_its_mean_by_the_names_of_the_starts():
    runs = {"a": torch.tensor([[9.0, 1, 2], [3, 1, 2]]), "b": torch.tensor([[8.0, 4, 3]] * 2)}
    figure = map_loss_figure(runs)
    lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert [lines["a"], lines["b"]] == [[4, 2], [5, 5]]
    assert all(line.get_xdata()[0] == 1 for line in figure.axes[0].lines if line.get_alpha())
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")
    thin = [line.get_ydata().tolist() for line in figure.axes[0].lines if line.get_alpha()]
    assert thin == [x.tolist() for losses in runs.values() for x in losses.T]


def test_exercise_1_shows_clean_images_and_their_reconstructions(run, data):
    found, x, model = run("ex1_autoencoder"), data.x_clean_example, Model()
    assert_rows(found.figures["ex1_reconstructions"], input=x, output=model.reconstruct(x))
    for row, images in (("training", data.x_clean_train), ("test", data.x_clean_test)):
        mse = (model.reconstruct(images) - images).square().mean().item()
        column = f"{row} images", "mean squared error"
        assert_cells(found, {column: mse, (column[0], "number"): len(images)}, 1e-5)
    assert found.ex1["mse_test"] == pytest.approx(mse, rel=1e-5)


def test_exercise_2_shows_the_latents_of_the_test_images(run, data):
    found, h, labels = run("ex2_latent"), Model().encode(data.x_clean_test), data.labels_test
    for ax in found.figures["ex2_latent"].axes:
        assert points(ax) == expected_points(h, labels)
        for text in ax.texts:
            own = h[labels == int(text.get_text())]
            assert (own - torch.tensor(text.get_position())).norm(dim=1).min() < 0.5
    whole, enlarged = found.figures["ex2_latent"].axes
    (x0, x1), (y0, y1) = enlarged.get_xlim(), enlarged.get_ylim()
    assert whole.patches[0].get_bbox().extents.tolist() == pytest.approx([x0, y0, x1, y1])
    low, high = h.quantile(torch.tensor([0.025, 0.975]), dim=0)
    assert [x1, y1] == pytest.approx(high.tolist()), "the view's upper end"
    assert [x0, y0] == pytest.approx((low - (high - low) / 20).tolist()), "the view's lower end"
    means = torch.stack([data.x_clean_test[labels == d].mean(dim=0) for d in (2, 7)])
    difference = found.ex2["mean_squared_difference_of_mean_images"][2][7]
    assert difference == pytest.approx((means[0] - means[1]).square().mean().item(), rel=1e-4)
    ten = torch.cdist(h, h).fill_diagonal_(torch.inf).topk(10, largest=False).indices
    alike = (labels[ten] == labels[:, None]).float().mean(dim=1)
    for digit in range(10):
        own = labels == digit
        expected = {f"h{i + 1} is 0 (%)": percent(h[own, i] == 0) for i in (0, 1)}
        expected["10 nearest latents, same digit (%)"] = percent(alike[own])
        assert_cells(found, {(str(digit), column): v for column, v in expected.items()}, 0.06)


def test_exercise_3_classifies_by_the_nearest_neighbor_and_knows_chance(run, data):
    found, labels = run("ex3_knn"), data.labels_test
    h_train, h = (Model().encode(x) for x in (data.x_clean_train, data.x_clean_test))
    predicted = nearest(h_train, data.labels_train, h)
    assert_confusion(found.figures["ex3_confusion"], confusion_of(labels, predicted))
    shown = bars(found.figures["ex3_accuracy"])
    chance = torch.bincount(data.labels_train, minlength=10) / len(data.labels_train)
    for name, n in (("all test images", len(labels)), ("first 20 test images", 20)):
        right = (predicted == labels)[:n]
        for digit in labels[:n].unique().tolist():
            accuracy = percent(right[labels[:n] == digit])
            assert shown[name][digit] == pytest.approx(accuracy)
            assert_cells(found, {(str(digit), name): accuracy})
        assert_cells(found, {("all", name): percent(right), (name, "correct"): right.sum()})
        by_chance = chance[labels[:n]].sum()
        assert_cells(found, {(name, "images"): n, (name, "correct by chance"): by_chance}, 0.51)


def test_exercise_4_shows_the_confusion_of_the_test_images(run, data):
    found = run("ex4_classifier")
    for part, x, labels in (
        ("training images", data.x_clean_train, data.labels_train),
        ("test images", data.x_clean_test, data.labels_test),
    ):
        logits = Classifier()(x)
        right, loss = logits.argmax(dim=1) == labels, cross_entropy(logits, labels)
        assert_cells(found, {(str(d), part): percent(right[labels == d]) for d in range(10)})
        assert_cells(found, {("all", part): percent(right), (part, "correct"): right.sum()})
        assert_cells(found, {(part, "number"): len(x), (part, "cross-entropy (nats)"): loss}, 6e-5)
    assert_confusion(found.figures["ex4_confusion"], confusion_of(labels, logits.argmax(dim=1)))


DRAWN = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))


def grid_of(h):
    """Return the places and the images of the grid over latents, from the lower left corner on."""
    low, high = h.amin(dim=0), h.amax(dim=0)
    steps = [torch.linspace(low[i].item(), high[i].item(), 15) for i in (0, 1)]
    places = torch.stack([torch.stack([a, b]) for b in steps[1] for a in steps[0]])
    return places, Model().decode(places)


def assert_tile(mosaic, row, column, image):
    tile = mosaic[32 * row :, 32 * column :][:32, :32]
    torch.testing.assert_close(tile, image[0], atol=1e-5, rtol=0, msg=f"row {row}, column {column}")


def assert_grid(figure, h, labels):
    """Compare the image at the upper left, at the lower right and beside the lower left corner."""
    _, images = grid_of(h)
    for row, column, image in ((0, 0, 14 * 15), (14, 14, 14), (14, 1, 1)):
        assert_tile(shown(figure.axes[0]), row, column, images[image])
    assert points(figure.axes[1]) == expected_points(h, labels)


def test_exercise_5_decodes_the_grid_and_counts_what_the_classifier_reads(run, data):
    found, h = run("ex5_generate"), Model().encode(data.x_clean_test)
    assert_grid(found.figures["ex5_grid"], h, data.labels_test)
    places, _ = grid_of(h)
    sure, steps = places[:, 1] > 2, h.amax(dim=0) - h.amin(dim=0)
    h_train = Model().encode(data.x_clean_train)
    cell = torch.cdist(h_train / steps, places / steps).argmin(dim=1)
    near = [data.labels_train[cell == point].bincount(minlength=10) for point in range(225)]
    near = torch.stack(near)
    none, purity = near.sum(dim=1) == 0, near.amax(dim=1) / near.sum(dim=1)
    kinds = {"none": none, "over 90 % one digit": purity > 0.9, "mixed": ~none & (purity <= 0.9)}
    for name, chosen in {**kinds, "all": none | ~none}.items():
        expected = {"images": chosen.sum(), "like a digit": sure[chosen].sum()}
        expected["%"] = percent(sure[chosen])
        assert_cells(found, {(name, column): v for column, v in expected.items()}, 0.06)
    counts = places[:, 0].round().clamp(0, 9).long()[sure].bincount(minlength=10)
    assert_cells(found, {(str(digit), "images"): counts[digit] for digit in range(10)})


def assert_image_metrics(found, part, x_clean, labels, images):
    """Compare the rows of a table of `image_metrics`."""
    for name, x in images.items():
        row, mse = f"{part} {name}", (x - x_clean).square().mean().item()
        right = percent(Classifier()(x).argmax(dim=1) == labels)
        assert_cells(found, {(row, "MSE"): mse}, 6e-6)
        assert_cells(
            found, {(row, "PSNR (dB)"): -10 * math.log10(mse), (row, "correct (%)"): right}
        )


def test_exercise_6_shows_noisy_images_their_outputs_and_the_clean_ones(run, data):
    found, model, x_noisy = run("ex6_denoise"), Model(), data.x_noisy_example
    rows = {"noisy": x_noisy, "output": model.reconstruct(x_noisy)}
    assert_rows(found.figures["ex6_denoising"], **rows, clean=data.x_clean_example)
    x, clean, labels = data.x_noisy_test, data.x_clean_test, data.labels_test
    h, h_noisy = model.encode(clean), model.encode(x)
    panels = found.figures["ex6_latent"].axes
    assert panels[0].get_xlim()[1] == pytest.approx(h[:, 0].quantile(0.975)), "not of clean latents"
    for ax, name, own in zip(panels, ("clean", "noisy"), (h, h_noisy), strict=True):
        assert (ax.get_title(), ax.axis()) == (name, panels[0].axis())
        assert points(ax) == expected_points(own, labels), name
    examples = data.x_clean_example, data.labels_example
    assert_image_metrics(found, "ten examples", *examples, rows)
    images = {"noisy": x, "output": model.reconstruct(x)}
    images["output for clean"] = model.reconstruct(clean)
    assert_image_metrics(found, "all test images", clean, labels, images)
    ten = torch.cdist(h_noisy, h).topk(10, largest=False).indices
    assert found.printed.endswith(f"\n{percent(labels[ten] == labels[:, None]):.1f} %")


def test_exercise_7_shows_the_means_of_the_vae_their_grid_and_samples_of_the_prior(run, data):
    figures, model, x = run("ex7_vae").figures, Model(VAE_SCALE), data.x_clean_example
    assert_rows(figures["ex7_reconstructions"], input=x, output=model.reconstruct(x))
    z, labels = model.encode(data.x_clean_test), data.labels_test
    for ax in figures["ex7_latent"].axes:
        assert points(ax) == expected_points(z, labels)
    assert_grid(figures["ex7_grid"], z, labels)
    for row, column in ((0, 0), (0, 1), (2, 15)):
        image = Model().decode(DRAWN[16 * row + column][None])[0]
        assert_tile(shown(figures["ex7_prior"].axes[0]), row, column, image)


def test_exercise_7_measures_the_latents_and_the_draws_of_the_vae(run, data):
    found, model = run("ex7_vae").ex7["VAE"], Model(VAE_SCALE)
    z, log_std = model.posterior(data.x_clean_test)
    digits = DRAWN[:, 0].round().clamp(0, 9) * (DRAWN[:, 1] > 2)  # unsure ones are read as 0
    for name, value in {
        "kl": (z**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(dim=1).mean().item() / 2,
        "deviation": log_std.mean(dim=0).exp().tolist(),
        "mean": (z + 1).mean(dim=0).tolist(),
        "share_within_prior_radii": [
            (z.square().sum(dim=1) < -2 * math.log(1 - share)).float().mean().item()
            for share in (0.5, 0.9, 0.99)
        ],
        "confident_share_of_prior": (DRAWN[:, 1] > 2).float().mean().item(),
        "prior_share_per_digit": (digits.long().bincount(minlength=10) / 2000).tolist(),
    }.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert torch.tensor(found["covariance"]).allclose(z.T.cov(), rtol=1e-3)


@pytest.mark.parametrize(("name", "scale"), [("autoencoder", 8), ("VAE", VAE_SCALE)])
def test_exercise_7_compares_the_vae_with_the_autoencoder(run, data, name, scale):
    found, model, labels = run("ex7_vae"), Model(scale), data.labels_test
    h = model.encode(data.x_clean_test)
    right = nearest(model.encode(data.x_clean_train), data.labels_train, h) == labels
    accuracy = [percent(right[labels == digit]) for digit in range(10)]
    assert bars(found.figures["ex7_accuracy"])[name] == pytest.approx(accuracy)
    own = found.ex7[name]
    for row, value in {
        "mean squared error": (model.decode(h) - data.x_clean_test).square().mean().item(),
        "KL divergence (nats)": own.get("kl", math.nan),
        "nearest neighbor correct (%)": percent(right),
        "grid: like a digit (%)": percent(grid_of(h)[0][:, 1] > 2),
        "samples of the prior: like a digit (%)": 100
        * own.get("confident_share_of_prior", math.nan),
    }.items():
        assert_cells(found, {(row, name): value})


def test_exercise_8_shows_both_ways_of_denoising_and_the_loss_from_both_starts(run, data):
    found, model = run("ex8_map_denoise", "--test-set"), Model(VAE_SCALE)
    x_noisy, clean, beta = data.x_noisy_example, data.x_clean_example, data.noise**2
    z_init = model.encode(x_noisy)
    assert found.ex8["beta"] == beta
    _, x_estimate, losses = map_estimate(model.decode, x_noisy, 2, beta, z_init)
    images = {"noisy": x_noisy, "output": model.reconstruct(x_noisy), "MAP": x_estimate}
    names = ("noisy", "VAE output (8a)", "MAP estimate (8b)")
    figure = found.figures["ex8_denoising"]
    assert_rows(figure, **dict(zip(names, images.values(), strict=True)), clean=clean)
    values = [psnr(x[i], clean[i]) for x in images.values() for i in range(10)]
    captions = [f"{value:.1f} dB" for value in values] + [""] * 10
    assert [ax.get_xlabel() for ax in figure.axes] == captions
    (ax,) = found.figures["ex8_map_loss"].axes
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    for name, z in (("from the encoder's mean", z_init), ("from 0, the prior's mean", 0 * z_init)):
        first = map_loss(x_noisy, model.decode(z), z, beta).mean().item()
        assert lines[name][0] == pytest.approx(first, rel=1e-5), name
    assert found.ex8["map_psnr_of_examples"] == pytest.approx(values[20:], rel=1e-5)
    assert found.ex8["last_map_loss_of_examples"] == pytest.approx(losses[-1].tolist(), rel=1e-5)
    assert_image_metrics(found, "ten examples", clean, data.labels_example, images)


def test_exercise_8_measures_both_ways_on_the_test_images(run, data):
    found, model = run("ex8_map_denoise", "--test-set"), Model(VAE_SCALE)
    x, clean, labels = data.x_noisy_test, data.x_clean_test, data.labels_test
    images = {"noisy": x, "output": model.reconstruct(x)}
    assert_image_metrics(found, "all test images", clean, labels, images)
    images = {name: x[:20] for name, x in images.items()}
    assert_image_metrics(found, "first 20 images", clean[:20], labels[:20], images)
    of_map = found.ex8_test_set["test"]["MAP"]["psnr"]
    assert_cells(found, {("all test images MAP", "PSNR (dB)"): of_map})
    assert "MAP" not in found.ex8["test"]
    z, log_std = model.posterior(clean)
    kl = (z**2 + (2 * log_std).exp() - 1 - 2 * log_std).mean(dim=0) / 2
    assert kl[0] < kl[1]  # so that an order of their own would differ
    assert found.ex8["kl_per_unit"] == pytest.approx(kl.tolist(), rel=1e-4)
