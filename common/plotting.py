"""Figures, one function per kind."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.latent import grid_points, label_places, prior_radii
from common.metrics import psnr
from common.script import write_file, write_json
from common.training import History

import matplotlib
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, ConnectionPatch, Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor

PAGE_WIDTH, NARROW, HALF = 16 / 2.54, 12 / 2.54, 7.8 / 2.54  # inches, at which it is included
COLORS = matplotlib.color_sequences["petroff10"]  # ten that color-blind readers tell apart
# Of the digits 0 to 9. Those that overlap in a latent space, 3, 5 and 8 or 4, 7 and 9, differ in
# lightness, too; all stand out from white.
DIGIT_COLORS = (
    *("#1581a4", "#7019f6", "#659202", "#062e4d", "#b074fe"),
    *("#14b3ab", "#094d3c", "#523000", "#064bac", "#0e7a3f"),
)
Names = tuple[str, str]  # of the two axes
HALO = [patheffects.withStroke(linewidth=2, foreground="w")]
LATENT_UNITS: Names = ("latent unit $h_1$", "latent unit $h_2$")
VAE_TERMS = {"loss": "loss", "mse": "mean squared error", "kl": "KL divergence (nats)"}

matplotlib.use("Agg")  # opens no window
matplotlib.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "image.interpolation": "none",  # a pdf file keeps the pixels as they are
        "savefig.dpi": 200,
        "pdf.fonttype": 42,  # TrueType; submission systems refuse the default
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
    }
)


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to `path` with the suffixes .png and .pdf, and close it."""
    figure.draw_without_rendering()  # the layout of fixed aspects settles at the second time
    # Without a date in it, the same figure is the same file.
    for format, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        content = io.BytesIO()
        figure.savefig(content, format=format, metadata=metadata)
        write_file(path.with_suffix(f".{format}"), content.getvalue())
    plt.close(figure)


def write_results(
    folder: Path, figures: Mapping[str, Figure], numbers: Mapping[str, Mapping], *tables: str
) -> None:
    """Write figures and numbers to `folder`, each by its name; then print the tables and paths."""
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    for name, content in numbers.items():
        write_json(folder / f"{name}.json", content)
    print(*tables, sep="\n\n", end="\n\n")
    for name in (
        *(f"{name}.png and .pdf" for name in figures),
        *(f"{name}.json" for name in numbers),
    ):
        print(f"wrote {folder / name}")


def image_rows(rows: Mapping[str, Tensor], reference: Tensor | None = None) -> Figure:
    """Plot rows of images `(N, 1, 32, 32)` below each other, each row with its name.

    With a `reference` `(N, 1, 32, 32)`, write below each image its PSNR in dB, unless it equals the
    reference.
    """
    columns = len(next(iter(rows.values())))
    caption = 0 if reference is None else 0.08
    size = (PAGE_WIDTH, (PAGE_WIDTH / (columns + 1) + caption) * len(rows))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    figure.get_layout_engine().set(
        w_pad=0.01,
        h_pad=0.02 if reference is None else 0.05,
        wspace=0,
        hspace=0,
        rect=(0.01, 0, 0.99, 1),
    )
    for row_axes, (name, images) in zip(axes, rows.items(), strict=True):
        for column, (ax, image) in enumerate(zip(row_axes, images, strict=True)):
            ax.imshow(image[0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            if reference is not None and not torch.equal(image, reference[column]):
                ax.set_xlabel(f"{psnr(image, reference[column]):.1f} dB", size=7, labelpad=1)
            ax.spines[:].set_visible(False)
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic, its ticks plain numbers even within one decade."""
    ax.set(yscale="log")
    low, high = ax.get_ylim()
    subs = np.arange(1, 10, 0.5) if high < 2 * low else (1, 1.5, 2, 3, 4, 5, 7)
    subs = subs if high < 6 * low else (1, 2, 5)
    ax.yaxis.set(major_locator=LogLocator(subs=subs), major_formatter="{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def loss_curves(
    history: History, terms: Mapping[str, str], committed: History | None = None
) -> Figure:
    """Plot the training and test loss of a history, as `training.train` records it, by epochs.

    An epoch's training loss is the mean over its batches and is drawn at the middle of the epoch,
    the test loss at its end. That before the first epoch, which is many times as large, is left
    out. Each of the `terms` has a panel with its label; the axes are logarithmic where all values
    are positive. The test loss of another history, `committed`, is drawn in gray.
    """
    size = (PAGE_WIDTH, 2) if len(terms) > 1 else (HALF, 2.2)
    figure, [panels] = plt.subplots(1, len(terms), figsize=size, squeeze=False)
    for ax, (term, name) in zip(panels, terms.items(), strict=True):
        train, test = history["train"][term], history["test"][term][1:]
        style = {"marker": "o" if len(train) < 10 else "", "markersize": 4}
        ax.plot(np.arange(len(train)) + 0.5, train, "-", color=COLORS[0], label="training", **style)
        ax.plot(np.arange(len(test)) + 1, test, "--", color=COLORS[1], label="test", **style)
        if committed:
            other = committed["test"][term][1:]
            label, style = "test, committed model", {"color": "0.6", "zorder": 1}
            ax.plot(np.arange(len(other)) + 1, other, label=label, **style)
        ax.set(xlabel="epoch", ylabel=name)
        ax.set_xlim(left=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if min(min(line.get_ydata()) for line in ax.lines) > 0:
            logarithmic(ax)
        ax.grid(alpha=0.25)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=1 + len(terms))
    return figure


def latent_scatter(
    ax: Axes,
    h: Tensor,
    labels: Tensor,
    units: Names = LATENT_UNITS,
) -> None:
    """Plot latents `(N, 2)` colored by label; `digit_legend` adds the legend."""
    h, labels = h.cpu(), labels.cpu()

    # In an order in which no digit covers the others.
    order = np.random.default_rng(0).permutation(len(h))
    colors = [DIGIT_COLORS[label] for label in labels[order]]
    style = {"s": min(12, 20_000 / len(h)), "linewidths": 0, "alpha": 0.6}
    ax.scatter(*h[order].T.numpy(), c=colors, rasterized=True, **style)

    for digit, color in enumerate(DIGIT_COLORS):
        ax.scatter([], [], s=25, color=color, label=str(digit))
    ax.set(xlabel=units[0], ylabel=units[1])


def enlarge(ax: Axes, h: Tensor, labels: Tensor) -> None:
    """Show most of the latents `h` `(N, 2)`, with each digit written where it is densest.

    The view extends from a little below the 2.5 % to the 97.5 % quantile of each axis.
    """
    low, high = h.quantile(torch.tensor([0.025, 0.975]), dim=0)
    low, high = (low - (high - low) / 20).tolist(), high.tolist()  # room for points on an axis
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    for digit, place in label_places(h, labels, low, high).items():
        name = ax.text(*place, str(digit), weight="bold", ha="center", va="center")
        name.set_path_effects(HALO)


def latent_figure(
    h: Tensor, labels: Tensor, units: Names = LATENT_UNITS, prior: bool = False
) -> Figure:
    """Exercises 2 and 7b: plot latents `(N, 2)` colored by label; once more, enlarged.

    With `prior`, also draw circles of `prior_radii`.
    """
    h, labels = h.cpu(), labels.cpu()
    figure, (whole, enlarged) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 3.1))
    latent_scatter(whole, h, labels, units)
    latent_scatter(enlarged, h, labels, units)
    enlarge(enlarged, h, labels)
    (x0, x1), (y0, y1) = enlarged.get_xlim(), enlarged.get_ylim()
    whole.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, linewidth=0.8))
    for y, end in ((y0, 0), (y1, 1)):  # from the rectangle to the view of it
        ends = {"xyA": (x1, y), "xyB": (0, end)}
        line = ConnectionPatch(
            **ends, coordsA=whole.transData, coordsB=enlarged.transAxes, linewidth=0.6, color="0.5"
        )
        figure.add_artist(line)
    enlarged.yaxis.tick_right()
    enlarged.yaxis.set_label_position("right")
    enlarged.spines[["left", "right"]].set_visible(True)
    if prior:
        whole.set_aspect("equal", adjustable="datalim")
        for share, radius in prior_radii().items():
            whole.add_patch(Circle((0, 0), radius, fill=False, linewidth=0.8, linestyle="--"))
            name = whole.text(0, radius, f"{100 * share:g} %", size=7, ha="center", va="center")
            name.set_path_effects(HALO)
    digit_legend(figure)
    return figure


def moved_figure(latents: Mapping[str, Tensor], labels: Tensor) -> Figure:
    """Exercise 6: plot latents `(N, 2)` of the same images side by side, in one view."""
    size = (PAGE_WIDTH, 2.35)
    figure, panels = plt.subplots(1, len(latents), figsize=size, sharex=True, sharey=True)
    for ax, (name, h) in zip(panels, latents.items(), strict=True):
        latent_scatter(ax, h, labels)
        ax.set_title(name, size=9)
        ax.label_outer()
    enlarge(panels[0], next(iter(latents.values())).cpu(), labels.cpu())
    digit_legend(figure)
    return figure


def map_loss_figure(runs: Mapping[str, Tensor]) -> Figure:
    """Exercise 8b: plot the loss of MAP estimates against iterations, both axes logarithmic.

    Each of two runs, by its name, has the loss of each image at each iteration, `(iterations, N)`;
    it is drawn thin, and the mean over the images thick.
    """
    figure, ax = plt.subplots(figsize=(HALF, 2.7))
    for (name, losses), color, style in zip(runs.items(), COLORS, ("-", "--"), strict=False):
        iteration = np.arange(1, len(losses) + 1)
        ax.plot(iteration, losses.cpu(), style, color=color, linewidth=0.5, alpha=0.5)
        ax.plot(iteration, losses.mean(dim=1).cpu(), style, color=color, linewidth=2, label=name)
    ax.plot([], [], color="0.5", linewidth=0.5, label="thin: each example; thick: their mean")
    ax.set(xlabel="iteration", ylabel="MAP loss per image")
    ax.set(xscale="log", xlim=(1, len(losses)))
    ax.xaxis.set_major_formatter("{x:g}")
    logarithmic(ax)
    ax.grid(alpha=0.25)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center")
    return figure


def digit_legend(figure: Figure) -> None:
    """Add the legend of `latent_scatter` below the axes."""
    handles, names = figure.axes[-1].get_legend_handles_labels()
    style = {"ncols": 10, "handletextpad": 0, "columnspacing": 0.8, "handlelength": 1.2}
    figure.legend(handles, names, loc="outside lower center", **style)


def accuracy_bars(accuracies: Mapping[str, Sequence[float | None]], chance: float) -> Figure:
    """Plot one group of bars per digit, in percent, and the level of chance."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 2.6))
    width = 0.8 / len(accuracies)
    for bar, (name, values) in enumerate(accuracies.items()):
        place = np.arange(10) + width * (bar + 0.5) - 0.4
        ax.bar(
            place,
            [value or 0 for value in values],
            width,
            color=COLORS[bar],
            edgecolor="white",
            label=name,
        )
    ax.axhline(chance, color="black", linestyle="--", linewidth=1, label="chance")
    ax.set(xlabel="digit", ylabel="correct (%)", xticks=range(10), ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def confusion_figure(confusion: Tensor) -> Figure:
    """Plot a confusion matrix `(10, 10)`: counts of images, shaded by the share of their row.

    A share of 10 % or more is written below its count.
    """
    confusion = confusion.cpu()
    figure, ax = plt.subplots(figsize=(NARROW, 3.6))
    share = 100 * confusion / confusion.sum(dim=1, keepdim=True).clamp_min(1)
    image = ax.imshow(share.numpy(), cmap="Greys", vmin=0, vmax=100, aspect="auto")
    for (i, j), count in np.ndenumerate(confusion.numpy()):
        if count:
            color = "white" if share[i, j] > 65 else "black"
            text = f"{count}\n{share[i, j]:.1f}%" if share[i, j] >= 10 else count
            ax.text(j, i, text, ha="center", va="center", color=color, size=7)
    ax.set(xlabel="classified as", ylabel="digit", xticks=range(10), yticks=range(10))
    figure.colorbar(image, label="share of the digit's images (%)")
    return figure


def grid_figure(
    images: Tensor, a: Tensor, b: Tensor, h: Tensor, labels: Tensor, units: Names = LATENT_UNITS
) -> Figure:
    """Exercises 5 and 7d: plot images decoded from a grid and, on the same axes, the latents.

    The images `(len(b) * len(a), 1, 32, 32)` are decoded from `grid_points(a, b)`, and each is
    centered there; the axes end where the images do. The latents `h` are `(N, 2)`.
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(NARROW, 6.2), height_ratios=(5, 2), sharex="all", sharey="all"
    )
    top.set_box_aspect(1)  # as square as its images
    bottom.set_box_aspect(2 / 5)
    latent_scatter(bottom, h, labels, units)
    bottom.plot(*grid_points(a, b).T.cpu(), "k+", markersize=3, markeredgewidth=0.5)

    # Image rows run down, the plot's axis up: put the largest b first.
    mosaic = tile(images.unflatten(0, (len(b), len(a))).flip(0).flatten(0, 1), len(a))

    half_a, half_b = (a[1] - a[0]) / 2, (b[1] - b[0]) / 2
    extent = [x.item() for x in (a[0] - half_a, a[-1] + half_a, b[0] - half_b, b[-1] + half_b)]
    top.imshow(mosaic, extent=extent, cmap="gray", vmin=0, vmax=1, origin="upper", aspect="auto")
    top.set(xlim=extent[:2], ylim=extent[2:], ylabel=units[1])
    digit_legend(figure)
    return figure


def mosaic_figure(images: Tensor, columns: int) -> Figure:
    """Exercise 7e: plot images `(N, 1, 32, 32)` in reading order, `columns` to a row."""
    size = (PAGE_WIDTH, PAGE_WIDTH / columns * math.ceil(len(images) / columns))
    figure, ax = plt.subplots(figsize=size)
    ax.imshow(tile(images, columns), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    return figure


def tile(images: Tensor, columns: int) -> np.ndarray:
    """Return images `(N, 1, height, width)` as one array, `columns` to a row, in reading order."""
    rows = images.view(-1, columns, *images.shape[-2:])
    return rows.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).cpu().numpy()
