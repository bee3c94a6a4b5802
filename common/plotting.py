"""Figures, one function per kind."""

import math
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from common.latent import PRIOR_RADII, grid_points, label_places
from common.metrics import psnr
from common.script import short, write_file, write_json
from common.training import History

PAGE_WIDTH, NARROW, HALF = 16 / 2.54, 12 / 2.54, 7.8 / 2.54  # inches, at which it is included
COLORS = matplotlib.color_sequences["petroff10"]  # ten that color-blind readers tell apart
# Of the digits 0 to 9, for color-blind readers, too. Those that overlap in a latent space, 3, 5 and
# 8 or 4, 7 and 9, also differ in lightness; none is nearly black or nearly white.
DIGIT_COLORS = (
    *("#fc5f00", "#0c6468", "#008646", "#ff7c9b", "#2daeff"),
    *("#5e4c00", "#9100b9", "#0010ff", "#176fff", "#9564b6"),
)
Names = tuple[str, str]  # of the two axes
HALO = patheffects.withStroke(linewidth=2, foreground="w")
LATENT_UNITS = ("latent unit $h_1$", "latent unit $h_2$")
VAE_TERMS = {"loss": "loss (nats)", "mse": "mean squared error", "kl": "KL divergence (nats)"}

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
        save = partial(figure.savefig, format=format, metadata=metadata)
        write_file(path.with_suffix(f".{format}"), save)
    plt.close(figure)


def write_results(
    out: Path, figures: dict[str, Figure], numbers: dict[str, dict], tables: dict[str, str]
) -> None:
    """Write figures and numbers to `out/figures`, by their names; print titled tables and paths."""
    for name, figure in figures.items():
        save_figure(figure, out / "figures" / name)
    for name, content in numbers.items():
        write_json(out / "figures" / f"{name}.json", content)
    for title, table in tables.items():
        print(title, table, sep="\n\n", end="\n\n")
    for name in [f"{name}.png and .pdf" for name in figures] + [f"{name}.json" for name in numbers]:
        print(short(f"wrote {out / 'figures' / name}"))


def image_rows(rows: dict[str, Tensor], reference: Tensor | None = None) -> Figure:
    """Plot rows of images `(N, 1, 32, 32)`, each with its name, and below each image its PSNR.

    The PSNR is that to a `reference` `(N, 1, 32, 32)`, if there is one and it is another image.
    """
    columns = len(next(iter(rows.values())))
    caption, h_pad = (0, 0.02) if reference is None else (0.11, 0.05)
    size = (PAGE_WIDTH, (PAGE_WIDTH / (columns + 1) + caption) * len(rows))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    pads = {"w_pad": 0.01, "h_pad": h_pad, "wspace": 0, "hspace": 0}
    figure.get_layout_engine().set(**pads, rect=(0.01, 0, 0.99, 1))
    for row_axes, (name, images) in zip(axes, rows.items(), strict=True):
        for column, (ax, image) in enumerate(zip(row_axes, images, strict=True)):
            ax.imshow(image[0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            if reference is not None and not torch.equal(image, reference[column]):
                ax.set_xlabel(f"{psnr(image, reference[column]):.1f} dB", size=7, labelpad=3)
            ax.spines[:].set_visible(False)
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic and say so; its ticks are plain numbers."""
    ax.set(yscale="log", ylabel=f"{ax.get_ylabel()}, log axis")
    low, high = ax.get_ylim()
    subs = (1, 1.5, 2, 3, 4, 5, 7) if high < 6 * low else (1, 2, 5)
    ax.yaxis.set(major_locator=LogLocator(subs=subs), major_formatter="{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def loss_curves(history: History, terms: dict[str, str]) -> Figure:
    """Plot the training and test loss of a history by epochs, each of the `terms` with its label.

    An epoch's training loss, the mean over its batches, is drawn at the middle of the epoch, the
    test loss at its end, but for the one before the first epoch, which is many times as large.
    """
    size = (PAGE_WIDTH, 2.5) if len(terms) > 1 else (HALF, 2.4)
    figure, [panels] = plt.subplots(1, len(terms), figsize=size, squeeze=False)
    figure.get_layout_engine().set(wspace=0.06)
    for ax, (term, name) in zip(panels, terms.items(), strict=True):
        train, test = ([epoch[term] for epoch in history[part]] for part in ("train", "test"))
        style = {"marker": "o" if len(train) < 10 else "", "markersize": 4}
        wide = {"color": COLORS[0], "linewidth": 3}
        ax.plot(np.arange(len(train)) + 0.5, train, label="training", **wide, **style)
        ax.plot(range(1, len(test)), test[1:], "k--", label="test", linewidth=1, **style)
        ax.set(xlabel="epoch", xlim=(0, None))
        ax.set_ylabel(name, size=8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if 0 < min(train + test) < max(train + test[1:]) / 4:
            logarithmic(ax)
        ax.grid(alpha=0.25)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def latent_scatter(ax: Axes, h: Tensor, labels: Tensor, units: Names = LATENT_UNITS) -> None:
    """Plot latents `(N, 2)` colored by label, with the legend below all panels."""
    h, labels = h.cpu(), labels.cpu()

    # In an order in which no digit covers the others.
    order = np.random.default_rng(0).permutation(len(h))
    colors = [DIGIT_COLORS[label] for label in labels[order]]
    style = {"s": min(12, 20_000 / len(h)), "linewidths": 0, "alpha": 0.7}
    ax.scatter(*h[order].T.numpy(), c=colors, rasterized=True, **style)

    ax.set(xlabel=units[0], ylabel=units[1])
    if not ax.figure.legends:
        for digit, color in enumerate(DIGIT_COLORS):
            ax.scatter([], [], s=25, color=color, label=str(digit))
        style = {"ncols": 10, "handletextpad": 0, "columnspacing": 0.8, "handlelength": 1.2}
        ax.figure.legend(loc="outside lower center", **style)


def enlarge(ax: Axes, h: Tensor) -> None:
    """Show latents `(N, 2)` from the 2.5 to the 97.5 % quantile."""
    low, high = h.quantile(torch.tensor([0.025, 0.975]), dim=0)
    low, high = (low - (high - low) / 20).tolist(), high.tolist()  # room for points on an axis
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def name_digits(
    ax: Axes, h: Tensor, labels: Tensor, cells: int = 24, corners: tuple | None = None
) -> None:
    """Write each digit where most of its latents `(N, 2)` are in the view, if it fits there."""
    low, high = corners or zip(ax.get_xlim(), ax.get_ylim(), strict=True)
    for digit, place in label_places(h.cpu(), labels.cpu(), low, high, cells).items():
        ax.text(*place, str(digit), weight="bold", ha="center", va="center", path_effects=[HALO])


def latent_figure(
    h: Tensor, labels: Tensor, units: Names = LATENT_UNITS, prior: bool = False
) -> Figure:
    """Exercises 2 and 7b: plot latents `(N, 2)` twice, once enlarged, and the `PRIOR_RADII`."""
    figure, (whole, enlarged) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 3.3))
    latent_scatter(whole, h, labels, units)
    latent_scatter(enlarged, h, labels, units)
    enlarge(enlarged, h.cpu())
    (x0, x1), (y0, y1) = enlarged.get_xlim(), enlarged.get_ylim()
    whole.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, linewidth=0.8))
    enlarged.set_title("the rectangle, enlarged", size=9)
    if prior:
        whole.set_aspect("equal", adjustable="datalim")
        for (share, radius), style in zip(PRIOR_RADII.items(), (":", "--", "-"), strict=True):
            of = " of $N(0, I)$" if share == max(PRIOR_RADII) else ""
            ring = radius * np.exp(1j * np.linspace(0, 2 * np.pi, 200))
            line = {"linewidth": 1.2, "path_effects": [HALO], "label": f"{100 * share:g} %{of}"}
            whole.plot(ring.real, ring.imag, f"k{style}", **line)
        style = {"ncols": 3, "columnspacing": 1, "fontsize": 8, "borderpad": 0}
        whole.legend(handles=whole.lines, loc="lower center", bbox_to_anchor=(0.5, 1), **style)
    for ax in (whole, enlarged):
        name_digits(ax, h, labels)
    return figure


def moved_figure(latents: dict[str, Tensor], labels: Tensor) -> Figure:
    """Exercise 6: plot latents `(N, 2)` of the same images side by side, in one view."""
    figure, panels = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.35), sharex=True, sharey=True)
    enlarge(panels[0], next(iter(latents.values())).cpu())
    for ax, (name, h) in zip(panels, latents.items(), strict=True):
        latent_scatter(ax, h, labels)
        ax.set_title(name, size=9)
        ax.label_outer()
        name_digits(ax, h, labels)
    return figure


def map_loss_figure(runs: dict[str, Tensor]) -> Figure:
    """Exercise 8b: plot the MAP losses `(iterations, N)` of runs (thin) and their mean (thick)."""
    figure, ax = plt.subplots(figsize=(HALF, 2.6))
    for (name, losses), color, style in zip(runs.items(), COLORS, ("-", "--"), strict=False):
        iteration = np.arange(1, len(losses) + 1)
        ax.plot(iteration, losses.cpu(), style, color=color, linewidth=0.8, alpha=0.6)
        ax.plot(iteration, losses.mean(dim=1).cpu(), style, color=color, linewidth=3, label=name)
    ax.plot([], [], color="black", linewidth=0.8, label="one example")
    ax.plot([], [], color="black", linewidth=3, label="average")
    ax.set(xlabel="iteration, log axis", xscale="log", xlim=(1, len(losses)))
    ax.set_ylabel("MAP loss per image", size=8)
    ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
    ax.minorticks_off()
    logarithmic(ax)
    ax.grid(alpha=0.25)
    style = {"ncols": 2, "fontsize": 8, "columnspacing": 1, "handlelength": 3}
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", **style)
    return figure


def accuracy_bars(accuracies: dict[str, list[float | None]], chance: float) -> Figure:
    """Plot one group of bars per digit, in percent, and the level of chance."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 2.6))
    width = 0.8 / len(accuracies)
    for bar, (name, values) in enumerate(accuracies.items()):
        place, heights = np.arange(10) + width * (bar + 0.5) - 0.4, np.array(values, dtype=float)
        drawn = ax.bar(place, heights, width, color=COLORS[bar], edgecolor="white", label=name)
        ax.bar_label(drawn, fmt="%.0f", size=7, padding=1)
    ax.axhline(chance, color="black", linestyle="--", linewidth=1, label="chance", zorder=0)
    ax.set(xlabel="digit", ylabel="correct (%)", xticks=range(10), ylim=(0, 105))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def confusion_figure(confusion: Tensor) -> Figure:
    """Plot a confusion matrix `(10, 10)`: counts, and shares of the row, which darken the cells."""
    confusion = confusion.cpu()
    figure, ax = plt.subplots(figsize=(NARROW, 3.6))
    share = 100 * confusion / confusion.sum(dim=1, keepdim=True).clamp_min(1)
    ax.imshow(share.numpy(), cmap="Greys", vmin=0, vmax=100, aspect="auto")
    for (i, j), count in np.ndenumerate(confusion.numpy()):
        if count:
            color = "white" if share[i, j] > 65 else "black"
            percent = f"{share[i, j]:.{int(share[i, j] < 99.95)}f} %"  # 100 %: the cell is narrow
            text = f"{count}\n{percent}" if share[i, j] >= 10 else count
            ax.text(j, i, text, ha="center", va="center", color=color, size=8)
    ax.set(xlabel="classified as", ylabel="true digit", xticks=range(10), yticks=range(10))
    ax.spines[:].set_visible(True)
    return figure


def grid_figure(
    images: Tensor, a: Tensor, b: Tensor, h: Tensor, labels: Tensor, units: Names = LATENT_UNITS
) -> Figure:
    """Exercises 5 and 7d: plot images decoded from a grid and, on the same axes, latents `(N, 2)`.

    The images `(len(b) * len(a), 1, 32, 32)` are centered at the `grid_points(a, b)`.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(PAGE_WIDTH, 4.1), width_ratios=(10, 7), sharex=True, sharey=True
    )
    left.set_box_aspect(1)  # as square as its images
    right.set_box_aspect(10 / 7)
    latent_scatter(right, h, labels, units)
    right.plot(*grid_points(a, b).T.cpu(), "k+", markersize=3, markeredgewidth=0.5)

    # Image rows run down, the plot's axis up: put the largest b first.
    mosaic = tile(images.unflatten(0, (len(b), len(a))).flip(0).flatten(0, 1), len(a))

    half_a, half_b = (a[1] - a[0]) / 2, (b[1] - b[0]) / 2
    extent = [x.item() for x in (a[0] - half_a, a[-1] + half_a, b[0] - half_b, b[-1] + half_b)]
    left.imshow(mosaic, extent=extent, cmap="gray", vmin=0, vmax=1, origin="upper", aspect="auto")
    left.set(xlim=extent[:2], ylim=extent[2:], xlabel=units[0], ylabel=units[1])
    right.set_ylabel("")
    between = (a[0].item(), b[0].item()), (a[-1].item(), b[-1].item())  # the crosses
    name_digits(right, h, labels, len(a) - 1, between)
    return figure


def mosaic_figure(images: Tensor, columns: int) -> Figure:
    """Exercise 7e: plot images `(N, 1, 32, 32)` in reading order, `columns` to a row."""
    pad = 0.04  # inches
    height = (PAGE_WIDTH - 2 * pad) / columns * math.ceil(len(images) / columns) + 2 * pad
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, height))
    figure.get_layout_engine().set(w_pad=pad, h_pad=pad)
    ax.imshow(tile(images, columns), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    return figure


def tile(images: Tensor, columns: int) -> np.ndarray:
    """Return images `(N, 1, height, width)` as one array, `columns` to a row, in reading order."""
    rows = images.view(-1, columns, *images.shape[-2:])
    return rows.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).cpu().numpy()
