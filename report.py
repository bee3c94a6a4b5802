"""Build REPORT.md from its template, the numbers in figures/*.json and the code in the scripts.

    python report.py

The prose stands in report_template.md, a Jinja template. Every number in it is looked up and every
line of code copied when the report is built, so that neither can go stale.
"""

import argparse
import ast
import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined, TemplateError

from dataset import DataError
from options import run
from training import RECIPES, write_whole

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "report_template.md"

# The run that writes a file, by the start of the file's name; the first that fits.
COMMANDS = {
    "ex4_augmented": "ex4_classifier.py --augment",
    "limit-1000/ex4": "ex4_classifier.py --limit 1000",
    "ex7_balance": "ex7_vae.py --balance",
    "ex8_test_set": "ex8_map_denoise.py --test-set",
    "ex8_worst": "ex8_map_denoise.py --test-set",
} | {path.name[:3]: path.name for path in sorted(HERE.glob("ex*.py"))}


def remedy(name: str) -> str:
    """What to do where the file `name` of the figures' folder is missing."""
    command = next(run for start, run in COMMANDS.items() if name.startswith(start))
    return f"run python {command} first"


class ReportError(DataError):
    """The report cannot be built; the message is one line that says what to do."""


class Report:
    """What the template may call: numbers, figures and code, each by its name.

    Args:
        figures_dir: holds the figures and the json files.
        link: the path of that folder as the report's links name it.
    """

    def __init__(self, figures_dir: Path, link: str):
        self.figures_dir, self.link = figures_dir, link
        self.figure_numbers: dict[str, int] = {}
        self.all_numbered = False

    def numbers(self, name: str) -> dict:
        """The content of `figures_dir/name.json`.

        Raises:
            ReportError: it is not there, or not json.
        """
        path = self.figures_dir / f"{name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ReportError(f"{path} does not exist; {remedy(name)}") from error
        except ValueError as error:
            raise ReportError(f"{path} is not a json file; {remedy(name)}") from error

    def figure(self, name: str, caption: str) -> str:
        """The figure `name`, numbered, with its caption.

        Raises:
            ReportError: it is not there.
        """
        path = self.figures_dir / f"{name}.png"
        if not path.exists():
            raise ReportError(f"{path} does not exist; {remedy(name)}")
        self.figure_numbers.setdefault(name, len(self.figure_numbers) + 1)
        return f"![{name}]({self.link}/{name}.png)\n\n*{self.ref(name)}. {caption}*"

    def ref(self, name: str) -> str:
        """How the text calls a figure.

        Raises:
            ReportError: the whole template has been read, and there is no such figure in it.
        """
        if name not in self.figure_numbers and self.all_numbered:
            raise ReportError(f"{TEMPLATE.name} refers to {name}, which it does not show")
        return f"Figure {self.figure_numbers.get(name, '?')}"


def code(file: str, name: str, part: str | None = None) -> str:
    """The source of the function or class `name` of `file`, without its docstring.

    With `part`, only the paragraph of it whose first line is a comment that starts with `part`.

    Raises:
        ReportError: there is no such source.
    """
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    node: ast.AST = ast.parse("\n".join(lines))
    for step in name.split("."):
        named = [
            child for child in ast.iter_child_nodes(node) if getattr(child, "name", "") == step
        ]
        if not named:
            raise ReportError(f"{TEMPLATE.name} quotes {name} of {file}, which does not exist")
        node = named[0]
    skipped = range(0)
    if ast.get_docstring(node) is not None:
        skipped = range(node.body[0].lineno, node.body[0].end_lineno + 1)
    source = [lines[n - 1] for n in range(node.lineno, node.end_lineno + 1) if n not in skipped]
    text = textwrap.dedent("\n".join(source))
    if part is not None:
        paragraphs = [textwrap.dedent(paragraph) for paragraph in text.split("\n\n")]
        found = [paragraph for paragraph in paragraphs if paragraph.startswith(f"# {part}")]
        if not found:
            raise ReportError(f"{TEMPLATE.name} quotes '# {part}' of {file}, which does not exist")
        text = found[0]
    return f"```python\n{text}\n```"


def table(header: Sequence[str | int], rows: Sequence[Sequence[str | int]]) -> str:
    """A Markdown table, its first column aligned left and the others right."""
    lines = (header, ["---", *["---:"] * (len(header) - 1)], *rows)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def fixed(values: Sequence[float], factor: float = 1, digits: int = 1) -> list[str]:
    """Numbers for a table, times `factor`, with so many digits after the point."""
    return [f"{factor * value:.{digits}f}" for value in values]


def build(template: str, figures_dir: Path, link: str) -> str:
    """The report's text.

    Raises:
        ReportError: a figure, a file of numbers, a number or a piece of code is not there.
    """
    report = Report(figures_dir, link)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {
        "numbers": report.numbers,
        "figure": report.figure,
        "ref": report.ref,
        "code": code,
        "table": table,
        "fixed": fixed,
        "digits": list(range(10)),
        "recipes": RECIPES,
    }
    try:
        compiled = environment.from_string(template)
        compiled.render()  # numbers the figures, which the text may mention before they come
        report.all_numbered = True
        return compiled.render() + "\n"
    except TemplateError as error:
        raise ReportError(
            f"{TEMPLATE.name}: {error.message}; if a number is missing, run make figures first"
        ) from error


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures-dir", type=Path, default=Path("figures"))
    parser.add_argument("--output", type=Path, default=Path("REPORT.md"))
    options = parser.parse_args(argv)
    template = TEMPLATE.read_text(encoding="utf-8")
    link = Path(os.path.relpath(options.figures_dir, options.output.parent)).as_posix()
    text = build(template, options.figures_dir, link)
    write_whole(options.output, lambda file: file.write_text(text, encoding="utf-8"))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    run(main)
