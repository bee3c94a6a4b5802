"""Build the report from report/template.md, the numbers in the json files and the code itself.

    python -m report.build --name "Ada Lovelace" --number 1234567 --date 2026-11-25

writes REPORT.md and REPORT.pdf. The template is a Jinja template with the prose; numbers and code
are inserted when the report is built.
"""

import argparse
import ast
import inspect
import json
import re
import textwrap
from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pypandoc
import typst
from jinja2 import Environment, StrictUndefined

from common.script import PROJECT, ScriptError, fixed, format_table, run_script, write_file
from common.training import RECIPES

TEMPLATE = PROJECT / "report" / "template.md"


def code(file: str, name: str, part: str = "") -> str:
    """Return the source of the function or class `name` of `file`, below a comment that names it.

    The docstring is left out; with `part`, all but the paragraph whose comment begins with it.
    """
    thing = attrgetter(name)(import_module(file.removesuffix(".py").replace("/", ".")))
    lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
    node = ast.parse("\n".join(lines)).body[0]
    if ast.get_docstring(node) is not None:
        del lines[node.body[0].lineno - 1 : node.body[0].end_lineno]
    text = "\n".join(lines).replace("\n\n\n", "\n\n")
    if part:
        paragraphs = map(textwrap.dedent, text.split("\n\n"))
        (text,) = (p for p in paragraphs if p.startswith(f"# {part}"))
    return f"```python\n# {file}: {name}\n{text}\n```"


def build(template: str, root: Path, for_pdf: bool = False) -> str:
    """Return the report's text in Markdown, with the figures and numbers below the folder `root`.

    `for_pdf` gives Pandoc's Markdown, in which figures are Typst's.

    Raise a ScriptError if the template refers to a figure or a table that it does not show.
    """
    labels: dict[str, str] = {}  # of figures, tables and equations, by their names

    def numbers(name: str) -> dict:
        return json.loads((root / f"{name}.json").read_text(encoding="utf-8"))

    def label(kind: str, name: str) -> str:
        number = 1 + sum(text.startswith(kind) for text in labels.values())
        return labels.setdefault(name, f"{kind} {number}")

    def figure(
        names: str | list[str], caption: str, alt: str, placement: str = "none", width: str = "auto"
    ) -> str:
        names = [names] if isinstance(names, str) else names
        files = [f"{name}.{'pdf' if for_pdf else 'png'}" for name in names]
        text = f"{label('Figure', names[0])}. {caption}"
        if not for_pdf:
            return " ".join(f"![{alt}]({file})" for file in files) + f"\n\n*{text}*"
        images = ", ".join(f'image("{file}", alt: "{alt}", width: {width})' for file in files)
        caption = pypandoc.convert_text(text, "typst", "markdown").strip()
        grid = f"grid(columns: {len(files)}, column-gutter: 4mm, {images})"
        return f"```{{=typst}}\n#figure({grid}, caption: [{caption}], placement: {placement})\n```"

    def table(name: str, caption: str, header: Sequence, rows: Sequence[Sequence]) -> str:
        text = f"{label('Table', name)}. {caption}"
        cells = format_table(header, rows)
        return f"{cells}\n\n: {text}" if for_pdf else f"*{text}*\n\n{cells}"

    def equation(name: str, tex: str) -> str:
        number = label("equation", name).split()[1]
        return f"$${tex}$$" if for_pdf else f"$${tex} \\tag{{{number}}}$$"

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {
        "numbers": numbers,
        "figure": figure,
        "table": table,
        "equation": equation,
        "ref": lambda name: labels.get(name, "Figure ?"),
        "code": code,
        "fixed": fixed,
        "recipes": RECIPES,
    }
    compiled = environment.from_string(template)
    compiled.render()  # numbers the figures, which the text may mention before they come
    text = re.sub(r"\n{3,}", "\n\n", compiled.render()) + "\n"
    if "Figure ?" in text:
        raise ScriptError(f"{TEMPLATE} refers to what it does not show")
    return re.sub(r"(?<=\d)\s(?=(%|dB\b|nats\b))", "\u00a0", text)  # no line ends between them


def write_pdf(markdown: str, path: Path, title: dict[str, str]) -> None:
    """Write the report to `path`.

    Args:
        markdown: its text, in Pandoc's Markdown; figures are paths below the project.
        path: the PDF file, in the project's folder.
        title: `name`, `number` and `date`; what is missing or empty is left to be filled in.
    """
    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", markdown)  # no links to files
    text = re.sub(r"\A# .*\n", "", text)  # the style has the title
    body = pypandoc.convert_text(
        text,
        "typst",
        "markdown+tex_math_dollars-auto_identifiers",
        ["--shift-heading-level-by=-1", "--columns=1000"],
    )
    body = body.replace("align: (auto,", "align: (left,")  # the first column of a table
    source = (TEMPLATE.with_name("report.typ").read_text(encoding="utf-8") + body).encode()
    inputs = {key: value for key, value in title.items() if value}
    pdf = typst.compile(source, root=path.parent, sys_inputs=inputs, timestamp=0)
    write_file(path, lambda file: file.write_bytes(pdf))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], usage="%(prog)s [options]"
    )
    for option in ("name", "number", "date"):
        parser.add_argument(f"--{option}", default="", help="on the title page of the PDF")
    title, template = vars(parser.parse_args()), TEMPLATE.read_text(encoding="utf-8")
    text = build(template, PROJECT)
    write_file(PROJECT / "REPORT.md", lambda file: file.write_text(text, encoding="utf-8"))
    write_pdf(build(template, PROJECT, for_pdf=True), PROJECT / "REPORT.pdf", title)
    print("wrote REPORT.md and REPORT.pdf")


if __name__ == "__main__":
    run_script(main)
