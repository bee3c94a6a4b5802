"""Set the report as REPORT.pdf, with Pandoc and Typst."""

import re
from pathlib import Path

from common.errors import ScriptError
from common.files import PROJECT, atomic_write

STYLE = PROJECT / "report" / "report.typ"


def write_pdf(markdown: str, path: Path, title: dict[str, str]) -> None:
    """Write the report to `path`.

    Args:
        markdown: its text, in Pandoc's Markdown; figures are paths below the project.
        path: the PDF file, in the project's folder.
        title: `name`, `number` and `date`; what is missing or empty is left to be filled in.

    Raises:
        ScriptError: Pandoc or Typst is not installed.
    """
    try:
        import pypandoc  # not needed for REPORT.md
        import typst
    except ImportError as error:
        raise ScriptError(f"{error}; pip install -r requirements-report.txt") from error

    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", markdown)  # no links to files
    text = re.sub(r"\A# .*\n", "", text)  # the style has the title
    body = pypandoc.convert_text(
        text, "typst", "markdown+tex_math_dollars-auto_identifiers", ["--shift-heading-level-by=-1"]
    )
    for file, alt in re.findall(r'\]\(([^()\s]+)\)\{alt="([^"]*)"\}', text):  # Pandoc drops it
        body = body.replace(f'image("{file}")', f'image("{file}", alt: "{alt}")')
    source = STYLE.read_text(encoding="utf-8") + body
    inputs = {key: value for key, value in title.items() if value}
    temporary = path.with_suffix(".typ")
    try:
        temporary.write_text(source, encoding="utf-8")
        content = typst.compile(temporary, root=path.parent, sys_inputs=inputs, timestamp=0)
    finally:
        temporary.unlink(missing_ok=True)
    atomic_write(path, content)
