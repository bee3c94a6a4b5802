"""Everything the scripts show: one function per kind of figure, the tables, and writing to disk."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backend_bases import MouseEvent
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from training import History, UsageError, write_whole

PAGE_WIDTH = 6.3  # inches of text on an A4 page
COLOURS = matplotlib.color_sequences["petroff10"]  # ten that colour-blind readers tell apart
GRID_STEPS = 15
WINDOWS = ("macosx", "qtagg", "gtk4agg", "gtk3agg", "tkagg", "wxagg")  # matplotlib's, by toolkit
NAME_DISTANCE = 0.05  # of names in a scatter plot, as a share of its width and height
LATENT_UNITS = ("latent unit $h_1$", "latent unit $h_2$")

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
    }
)


def save_figure(figure: Figure, figures_dir: Path, name: str, format: str) -> None:
    """Write `figure` to `figures_dir/name.format`, close it, and say so."""
    path = figures_dir / f"{name}.{format}"
    # Without a date in it, the same figure is the same file.
    metadata = {"CreationDate": None} if format == "pdf" else {"Software": None}
    write_whole(path, lambda file: figure.savefig(file, format=format, metadata=metadata))
    plt.close(figure)
    print(f"wrote {path}")


def save_numbers(numbers: Mapping, figures_dir: Path, name: str) -> None:
    """Write `numbers` to `figures_dir/name.json`, floats to six significant digits, and say so."""

    def rounded(value):
        if isinstance(value, Mapping):
            return {key: rounded(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(item) for item in value]
        return float(f"{value:.6g}") if isinstance(value, float) else value

    path = figures_dir / f"{name}.json"
    text = json.dumps(rounded(numbers), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))
    print(f"wrote {path}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its first column aligned left and the others right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print()


def print_qualities(parts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print what `metrics.quality` says of images, and the time they took where it is known.

    `parts` holds it by the part of the data and then by what was done to the images.
    """
    header = ("images", "MSE", "PSNR (dB)", "right digit (%)", "time (s)")
    rows = []
    for part, images in parts.items():
        for name, row in images.items():
            cells = [f"{row['mse']:.5f}", f"{row['psnr']:.2f}", percent(row["right_digit"])]
            rows.append([f"{part}, {name}", *cells])
            if "seconds" in row:
                rows[-1].append(f"{row['seconds']:.2f}")
    print_table(header[: len(rows[0])], rows)


def percent(value: float | None, digits: int = 2) -> str:
    """A percentage for a table; a dash where there was nothing to count."""
    return "-" if value is None else f"{value:.{digits}f}"


def image_rows(rows: Mapping[str, Tensor]) -> Figure:
    """Rows of images below each other, each row with its name; `rows` holds `(N, 1, 32, 32)`."""
    columns = len(next(iter(rows.values())))
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(PAGE_WIDTH, PAGE_WIDTH / (columns + 1) * len(rows)),
        squeeze=False,
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    for row_axes, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(row_axes, images, strict=True):
            ax.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic, its ticks plain numbers even within one decade."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    subs = (1, 1.5, 2, 3, 5, 7) if high < 20 * low else (1, 3)
    ax.yaxis.set(major_locator=LogLocator(subs=subs), major_formatter="{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def loss_curves(history: History, terms: Mapping[str, str]) -> Figure:
    """Training and test loss against epochs, from a history as `training.train` leaves it.

    An epoch's training loss is the mean over its batches, so it stands at the middle of the epoch;
    the test loss is measured before the first epoch and after each. The axes are logarithmic where
    all values are positive.

    Args:
        history: of the training.
        terms: the terms of the loss to show, one panel each, and what their axes are called.
    """
    figure, panels = plt.subplots(
        len(terms), 1, figsize=(PAGE_WIDTH, 0.8 + 1.8 * len(terms)), sharex=True, squeeze=False
    )
    for ax, (term, name) in zip(panels[:, 0], terms.items(), strict=True):
        train, test = history["train"][term], history["test"][term]
        ax.plot(np.arange(len(train)) + 0.5, train, "-", color=COLOURS[0], label="training")
        ax.plot(np.arange(len(test)), test, "--", color=COLOURS[1], label="test")
        ax.set(ylabel=name, xlim=(0, len(train)))
        if min(*train, *test) > 0:
            logarithmic(ax)
        ax.grid(alpha=0.25)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def spread(places: Tensor, h: Tensor) -> Tensor:
    """Move `places` `(n, 2)` apart until names written there can be told apart on a plot of `h`."""
    low, high = h.min(dim=0).values, h.max(dim=0).values
    span = (high - low).clamp_min(1e-6)
    places = (places - low) / span
    for _ in range(100):
        apart = places[:, None] - places
        distance = apart.norm(dim=2, keepdim=True)
        push = (NAME_DISTANCE - distance).clamp_min(0) / 4 * apart / distance.clamp_min(1e-6)
        places = places + push.sum(dim=1)
    return places * span + low


def latent_scatter(
    ax: Axes,
    h: Tensor,
    labels: Tensor,
    axis_names: tuple[str, str] = LATENT_UNITS,
    among: Tensor | None = None,
) -> None:
    """Latents `(N, 2)` as points coloured by label, each digit written near its points' median.

    `among` are all the latents that the axes show, where they show more than `h`. `digit_legend`
    adds the legend.
    """
    size = min(12, 20_000 / len(h))
    present = labels.unique()
    for digit in range(10):
        x, y = h[labels == digit].T.numpy()
        ax.scatter(x, y, s=size, color=COLOURS[digit], linewidths=0, alpha=0.6, rasterized=True)
        ax.scatter([], [], s=25, color=COLOURS[digit], label=str(digit))
    medians = torch.stack([h[labels == digit].median(dim=0).values for digit in present])
    halo = [patheffects.withStroke(linewidth=2, foreground="w")]
    for digit, place in zip(
        present.tolist(), spread(medians, h if among is None else among), strict=True
    ):
        text = ax.text(*place.tolist(), str(digit), weight="bold", ha="center", va="center")
        text.set_path_effects(halo)
    ax.set(xlabel=axis_names[0], ylabel=axis_names[1])


def latent_figure(h: Tensor, labels: Tensor, axis_names: tuple[str, str] = LATENT_UNITS) -> Figure:
    """Exercises 2 and 7b: the `latent_scatter` of latents `(N, 2)`, with a legend of the digits."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 5.2))
    latent_scatter(ax, h, labels, axis_names)
    digit_legend(figure, loc="outside center right")
    return figure


def moved_figure(latents: Mapping[str, Tensor], labels: Tensor) -> Figure:
    """Exercise 6: the latents `(N, 2)` of the same images side by side, on the same axes."""
    figure, panels = plt.subplots(
        1, len(latents), figsize=(PAGE_WIDTH, 3.4), sharex=True, sharey=True
    )
    for ax, (name, h) in zip(panels, latents.items(), strict=True):
        latent_scatter(ax, h, labels, among=torch.cat(list(latents.values())))
        ax.set_title(name, size=9)
        ax.label_outer()
    digit_legend(figure, loc="outside lower center", ncols=10)
    return figure


def balance_figure(points: Sequence[Mapping[str, float]], chosen: float) -> Figure:
    """Reconstruction error against KL divergence, one point per weight, the `chosen` one marked."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH * 0.7, 2.8))
    kl, mse = [point["kl"] for point in points], [point["mse"] for point in points]
    ax.plot(kl, mse, "o-", color=COLOURS[0], markersize=4, linewidth=1)
    for point in points:
        weight = point["kl_weight"]
        style = {"weight": "bold"} if weight == chosen else {}
        if weight == chosen:
            ax.plot(point["kl"], point["mse"], "o", color=COLOURS[2], markersize=9, zorder=0)
        place = {"xytext": (6, 6), "textcoords": "offset points"}
        name = f"weight {weight:g}" if point is points[-1] else f"{weight:g}"
        ax.annotate(name, (point["kl"], point["mse"]), **place, **style)
    ax.set(xlabel="KL divergence (nats per image)", ylabel="mean squared error at the mean")
    ax.grid(alpha=0.25)
    return figure


def map_loss_figure(runs: Mapping[str, tuple[Tensor, float]]) -> Figure:
    """The loss of the MAP estimates, against iterations and against time.

    Args:
        runs: by name, the loss of each image at each iteration, `(iterations, N)`, and the seconds
            that all iterations took. Of the first run every image is drawn, of all the mean.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.9), sharey=True)
    for number, (name, (losses, seconds)) in enumerate(runs.items()):
        losses = losses.cpu().numpy()
        iteration = np.arange(1, len(losses) + 1)
        for ax, x in ((left, iteration), (right, iteration / len(losses) * seconds)):
            colour = COLOURS[number]
            if number == 0:
                ax.plot(x, losses, color=colour, linewidth=0.5, alpha=0.5)
            style = ("-", "--")[number]
            ax.plot(x, losses.mean(axis=1), style, color=colour, linewidth=2, label=name)
    for ax, name in ((left, "iteration"), (right, "time (s)")):
        ax.set(xlabel=name, xscale="log")
        logarithmic(ax)
        ax.grid(alpha=0.25)
    left.set_ylabel("MAP loss per image")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def beta_figure(betas: Sequence[float], psnrs: Sequence[float], noise: float) -> Figure:
    """PSNR of the MAP estimate against beta; marks the best and the variance of the noise."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH * 0.7, 2.8))
    ax.plot(betas, psnrs, ".-", color=COLOURS[0], label="MAP estimate")
    best = int(np.argmax(psnrs))
    ax.plot(betas[best], psnrs[best], "o", color=COLOURS[2], markersize=8, label="best of these")
    ax.axvline(noise**2, color="black", linestyle="--", linewidth=1, label="noise variance")
    ax.set(xlabel=r"$\beta$", ylabel="PSNR (dB)", xscale="log")
    ax.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def digit_legend(figure: Figure, loc: str, ncols: int = 1) -> None:
    """The legend of a figure's `latent_scatter`, outside its axes."""
    handles, names = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc=loc, ncols=ncols, handletextpad=0, columnspacing=1)


def accuracy_bars(accuracies: Mapping[str, Sequence[float | None]], chance: float) -> Figure:
    """One group of bars per digit, in percent, with the level that guessing would reach."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 2.6))
    width = 0.8 / len(accuracies)
    for bar, (name, values) in enumerate(accuracies.items()):
        place = np.arange(10) + width * (bar + 0.5) - 0.4
        heights = [value or 0 for value in values]
        ax.bar(place, heights, width, color=COLOURS[bar], edgecolor="white", label=name)
    ax.axhline(chance, color="black", linestyle="--", linewidth=1, label="chance")
    ax.set(xlabel="digit", ylabel="correct (%)", xticks=range(10), ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def confusion_figure(confusion: Tensor) -> Figure:
    """Confusion matrix `(10, 10)`: shade is the share of the row, numbers are counts of images."""
    figure, ax = plt.subplots(figsize=(4.4, 3.9))
    share = 100 * confusion / confusion.sum(dim=1, keepdim=True).clamp_min(1)
    image = ax.imshow(share.numpy(), cmap="Greys", vmin=0, vmax=100)
    for i in range(10):
        for j in range(10):
            if confusion[i, j]:
                colour = "white" if share[i, j] > 50 else "black"
                ax.text(j, i, int(confusion[i, j]), ha="center", va="center", color=colour, size=7)
    ax.set(xlabel="classified as", ylabel="digit", xticks=range(10), yticks=range(10))
    figure.colorbar(image, label="share of the digit's images (%)", shrink=0.9)
    return figure


def latent_grid(h: Tensor) -> tuple[Tensor, Tensor]:
    """Exercise 5: 15 equidistant values along each axis, between the corners of `h`, `(N, 2)`."""
    (a_low, b_low), (a_high, b_high) = h.min(dim=0).values.tolist(), h.max(dim=0).values.tolist()
    return torch.linspace(a_low, a_high, GRID_STEPS), torch.linspace(b_low, b_high, GRID_STEPS)


def grid_points(a: Tensor, b: Tensor) -> Tensor:
    """The points `(a[j], b[i])` of a grid, those of `b[0]` first, `(len(b) * len(a), 2)`."""
    return torch.stack(torch.meshgrid(a, b, indexing="xy"), dim=-1).view(-1, 2)


def decoded_grid(ax: Axes, images: Tensor, a: Tensor, b: Tensor) -> None:
    """The images decoded from `grid_points(a, b)`, `(len(b) * len(a), 1, 32, 32)`, at their points.

    The one decoded from `(a[j], b[i])` is centred at `(a[j], b[i])`, with `b` growing upwards; the
    values of `a` and `b` are equidistant and rise. The axes are made to end where the images do.
    """
    # An image's rows run downwards and the plot's axis upwards: the largest b comes first.
    rows = images.view(len(b), len(a), *images.shape[-2:]).flip(0)
    mosaic = torch.cat([torch.cat(list(row), dim=1) for row in rows]).numpy()
    half_a, half_b = (a[1] - a[0]) / 2, (b[1] - b[0]) / 2
    edges = torch.stack([a[0] - half_a, a[-1] + half_a, b[0] - half_b, b[-1] + half_b])
    extent = edges.tolist()
    ax.imshow(mosaic, extent=extent, cmap="gray", vmin=0, vmax=1, origin="upper", aspect="auto")
    ax.set(xlim=extent[:2], ylim=extent[2:])


class GridView(NamedTuple):
    """A latent space as exercise 5 looks at it.

    `images` are decoded from `grid_points(a, b)`; `h` `(N, 2)` and `labels` are the latents that
    the grid covers and their digits; `axis_names` name the two latent units.
    """

    images: Tensor
    a: Tensor
    b: Tensor
    h: Tensor
    labels: Tensor
    axis_names: tuple[str, str] = LATENT_UNITS


def grid_figure(view: GridView) -> Figure:
    """Exercises 5 and 7d: the decoded images and, on the same axes, the latents they cover."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 3.5), sharex=True, sharey=True)
    latent_scatter(right, view.h, view.labels, view.axis_names)
    points = grid_points(view.a, view.b).T.numpy()
    right.plot(*points, "+", color="black", markersize=3, markeredgewidth=0.5)
    right.set(ylabel=None)
    decoded_grid(left, view.images, view.a, view.b)
    left.set(xlabel=view.axis_names[0], ylabel=view.axis_names[1])
    digit_legend(figure, loc="outside lower center", ncols=10)
    return figure


def comparison_figure(views: Mapping[str, GridView]) -> Figure:
    """Exercises 7c and 7e: latent spaces side by side, above each the images decoded from it."""
    figure, axes = plt.subplots(
        2, len(views), figsize=(PAGE_WIDTH, 6.2), sharex="col", sharey="col"
    )
    for (top, bottom), (name, view) in zip(axes.T, views.items(), strict=True):
        latent_scatter(bottom, view.h, view.labels, view.axis_names)
        decoded_grid(top, view.images, view.a, view.b)
        top.set_ylabel(view.axis_names[1])
        top.set_title(name, size=9)
    digit_legend(figure, loc="outside lower center", ncols=10)
    return figure


def explorer(view: GridView, decode: Callable[[Tensor], Tensor]) -> Figure:
    """Exercises 5 and 7: the latents, and beside them the image decoded where the pointer is.

    A click pins the image below the one that follows the pointer, until the next click.

    Args:
        view: the latent space.
        decode: latents `(N, 2)` to images `(N, 1, 32, 32)`.
    """
    figure, axes = plt.subplot_mosaic(
        [["latents", "pointer"], ["latents", "pinned"]], figsize=(8, 5.2), width_ratios=(2.2, 1)
    )
    latent_scatter(axes["latents"], view.h, view.labels, view.axis_names)
    (pin,) = axes["latents"].plot([], [], "+", color="black", markersize=12, markeredgewidth=2)
    shown = {}
    for name, title in (("pointer", "move over the plot to decode"), ("pinned", "click to pin")):
        shown[name] = axes[name].imshow(np.zeros((32, 32)), cmap="gray", vmin=0, vmax=1)
        axes[name].set_axis_off()
        axes[name].set_title(title, size=9)

    def show(name: str, event: MouseEvent) -> None:
        place = event.xdata, event.ydata
        shown[name].set_data(decode(torch.tensor([place], dtype=torch.float32))[0, 0].numpy())
        axes[name].set_title(f"{name} at {place[0]:.2f}, {place[1]:.2f}", size=9)
        figure.canvas.draw_idle()

    def zooming() -> bool:
        return bool(getattr(figure.canvas.toolbar, "mode", ""))

    def moved(event: MouseEvent) -> None:
        if event.inaxes is axes["latents"]:
            show("pointer", event)

    def clicked(event: MouseEvent) -> None:
        if event.inaxes is axes["latents"] and not zooming():
            pin.set_data([event.xdata], [event.ydata])
            show("pinned", event)

    figure.canvas.mpl_connect("motion_notify_event", moved)
    figure.canvas.mpl_connect("button_press_event", clicked)
    return figure


def find_window() -> str:
    """The first of `WINDOWS` that works here.

    Raises:
        UsageError: there is no display, or none of the toolkits that matplotlib opens windows with.
    """
    for window in WINDOWS:
        with contextlib.suppress(ImportError):
            plt.switch_backend(window)
            plt.switch_backend("agg")
            return window
    raise UsageError(
        "--explore cannot open a window here: there is no display, or no toolkit such as Tk for "
        "Python to open one with"
    )


def explore(view: GridView, decode: Callable[[Tensor], Tensor], window: str) -> None:
    """Open the `explorer` in a window, one that `find_window` found, until that is closed."""
    plt.switch_backend(window)
    explorer(view, decode)
    plt.show()
