"""Tables, the same on the terminal and in Markdown."""

from collections.abc import Mapping, Sequence


def format_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, its first column aligned left and the others right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (cells[0], rule, *cells[1:]):
        aligned = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append(f"| {' | '.join(aligned)} |")
    return "\n".join(lines)


def print_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Print `format_table` and an empty line."""
    print(format_table(header, rows), end="\n\n")


def fixed(values: Sequence[float | None], digits: int = 2, factor: float = 1) -> list[str]:
    """Format `factor * values` with `digits` decimals, None as a dash."""
    return ["-" if value is None else f"{factor * value:.{digits}f}" for value in values]


def print_image_metrics(parts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print `denoising.image_metrics` by the part of the data and by how the images were made."""
    rows = [
        (f"{part}, {name}", f"{row['mse']:.5f}", *fixed((row["psnr"], row["right_digit"])))
        for part, images in parts.items()
        for name, row in images.items()
    ]
    print_table(("images", "MSE", "PSNR (dB)", "right digit (%)"), rows)
