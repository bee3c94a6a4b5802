"""Build the report from report/template.md, the numbers in the json files and the code itself.

    python -m report.build --name "Ada Lovelace" --number 1234567 --date 2026-11-25

writes REPORT.md and REPORT.pdf. The template is a Jinja template with the prose; numbers and code
are inserted when the report is built.
"""

import argparse
import ast
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from common.script import PROJECT, ScriptError, fixed, format_table, run_script, write_file
from common.training import RECIPES

import pypandoc
import typst
from jinja2 import Environment, StrictUndefined, TemplateError

TEMPLATE = PROJECT / "report" / "template.md"
STYLE = PROJECT / "report" / "report.typ"


def existing(path: Path) -> Path:
    """Return `path`; raise a ScriptError if it does not exist."""
    if not path.exists():
        raise ScriptError(f"{path} does not exist; run make figures, make studies or make train")
    return path


def code(file: str, name: str, part: str = "") -> str:
    """Return the source of the function or class `name` of `file`, below a comment that names it.

    The docstring is left out; with `part`, all but the paragraph whose comment begins with it.

    Raises:
        ScriptError: there is no such source.
    """
    lines = (PROJECT / file).read_text(encoding="utf-8").splitlines()
    node: ast.AST = ast.parse("\n".join(lines))
    try:
        for step in name.split("."):
            (node,) = (n for n in ast.iter_child_nodes(node) if getattr(n, "name", "") == step)
        skipped = range(0)
        if ast.get_docstring(node) is not None:
            skipped = range(node.body[0].lineno, node.body[0].end_lineno + 1)
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        chosen = (n for n in range(first, node.end_lineno + 1) if n not in skipped)
        text = textwrap.dedent("\n".join(lines[n - 1] for n in chosen)).replace("\n\n\n", "\n\n")
        if part:
            paragraphs = [textwrap.dedent(paragraph) for paragraph in text.split("\n\n")]
            (text,) = (p for p in paragraphs if p.startswith(f"# {part}"))
    except ValueError as error:
        raise ScriptError(f"{TEMPLATE} quotes {name} {part} of {file}: not found once") from error
    return f"```python\n# {file}: {name}\n{text}\n```"


def build(template: str, root: Path, for_pdf: bool = False) -> str:
    """Return the report's text in Markdown, with the figures and numbers below the folder `root`.

    `for_pdf` gives Pandoc's Markdown, in which figures are Typst's.

    Raises:
        ScriptError: a figure, a number or a piece of code is missing.
    """
    labels: dict[str, str] = {}  # of figures, tables and equations, by their names

    def numbers(name: str) -> dict:
        return json.loads(existing(root / f"{name}.json").read_text(encoding="utf-8"))

    def label(kind: str, name: str) -> str:
        number = 1 + sum(text.startswith(kind) for text in labels.values())
        return labels.setdefault(name, f"{kind} {number}")

    def figure(
        names: str | list[str], caption: str, alt: str, placement: str = "none", width: str = "auto"
    ) -> str:
        names = [names] if isinstance(names, str) else names
        files = [f"{name}.{'pdf' if for_pdf else 'png'}" for name in names]
        for file in files:
            existing(root / file)
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

    def ref(name: str) -> str:
        return labels.get(name, "Figure ?")

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {
        "numbers": numbers,
        "figure": figure,
        "table": table,
        "equation": equation,
        "ref": ref,
        "code": code,
        "fixed": fixed,
        "recipes": RECIPES,
    }
    try:
        compiled = environment.from_string(template)
        compiled.render()  # numbers the figures, which the text may mention before they come
        text = re.sub(r"\n{3,}", "\n\n", compiled.render()) + "\n"
    except (TemplateError, ValueError) as error:
        raise ScriptError(f"{TEMPLATE}: {error}; run make figures and make studies") from error
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
    source = (STYLE.read_text(encoding="utf-8") + body).encode()
    inputs = {key: value for key, value in title.items() if value}
    write_file(path, typst.compile(source, root=path.parent, sys_inputs=inputs, timestamp=0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], usage="%(prog)s [options]"
    )
    for option in ("name", "number", "date"):
        parser.add_argument(f"--{option}", default="", help="on the title page of the PDF")
    title, template = vars(parser.parse_args()), TEMPLATE.read_text(encoding="utf-8")
    write_file(PROJECT / "REPORT.md", build(template, PROJECT).encode())
    write_pdf(build(template, PROJECT, for_pdf=True), PROJECT / "REPORT.pdf", title)
    print(f"wrote {PROJECT / 'REPORT.md'} and {PROJECT / 'REPORT.pdf'}")


if __name__ == "__main__":
    run_script(main)
