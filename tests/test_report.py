"""The report: complete, from whatever numbers the scripts have written, and never stale."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from common.plotting import plt, save_figure
from common.script import ScriptError
from report.build import TEMPLATE, build, code, write_pdf

ROOT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)")


def made_up(value):
    """Return the same json with numbers that are a little larger."""
    if isinstance(value, dict):
        return {key: made_up(item) for key, item in value.items()}
    if isinstance(value, list):
        return [made_up(item) for item in value]
    return 1.01 * value if isinstance(value, float) else value


def test_the_report_is_set_as_a_pdf_that_is_the_same_every_time(tmp_path):
    save_figure(plt.figure(), tmp_path / "empty")
    text = "# Title\n\n## Part\n\nAn equation, $x^2$.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    text = build(
        text + '{{ figure("empty", "Axes (empty).", "Two axes") }}', tmp_path, for_pdf=True
    )
    for name in ("a.pdf", "b.pdf"):
        write_pdf(text, tmp_path / name, {"name": "Ada", "number": "", "date": ""})
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert content == (tmp_path / "b.pdf").read_bytes()
    assert b"Two axes" in content


@pytest.fixture(scope="module")
def root(tmp_path_factory, committed_checkpoints):
    """A folder with `figures/` and `studies/`, the numbers made up and the figures empty."""
    tmp_path = tmp_path_factory.mktemp("root")
    for path in [*ROOT.glob("figures/**/*"), *ROOT.glob("studies/*")]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            copy.write_text(json.dumps(made_up(json.loads(path.read_text()))))
        elif path.suffix == ".png":
            copy.touch()
    return tmp_path


@cache
def build_report(root):
    return build(TEMPLATE.read_text(encoding="utf-8"), root)


def test_every_part_of_the_assignment_has_its_heading_and_its_answer(root):
    sections = re.split(
        r"^####? (?:Exercise )?(\d[a-e]?)(?: \([\d.]+ points?\))?$",
        build_report(root),
        flags=re.MULTILINE,
    )
    answers = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(answers) == [
        *("1", "2", "2a", "2b", "2c", "3", "3a", "3b", "3c", "4", "4a", "4b", "4c"),
        *("5", "5a", "5b", "6", "7", "7a", "7b", "7c", "7d", "7e", "8", "8a", "8b", "8c"),
    ]
    for part, answer in answers.items():
        if part not in "234578":  # they have parts
            assert len(answer) > 200, part


def test_listings_fit_the_page_and_are_few(root):
    lines = "".join(re.findall(r"```python\n(.*?)```", build_report(root), re.DOTALL)).splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 88  # at 8 pt


def test_figures_and_tables_exist_have_captions_and_are_referred_to(root):
    text = build_report(root)
    for alt, path in re.findall(r"!\[(.*?)\]\((.+?)\)", text):
        assert 20 < len(alt) < 200
        assert (root / path).exists()
    for kind, least in (("Figure", 17), ("Table", 9)):
        caption = re.compile(rf"^\*{kind} (\d+)\. .+\*$", flags=re.MULTILINE)
        numbers = [str(number) for number in range(1, len(caption.findall(text)) + 1)]
        assert caption.findall(text) == numbers
        assert len(numbers) >= least
        assert set(re.findall(rf"{kind} (\d+)", caption.sub("", text))) == set(numbers)


def test_no_placeholder_and_no_reference_to_nothing_is_left(root):
    prose = re.sub(r"```.*?```", "", build_report(root), flags=re.DOTALL)
    for mark in (r"\{\{", r"\{%", r"%\}", r"\bTODO\b", r"Figure \?", r"\bNone\b", r"\bnan\b"):
        assert not re.search(mark, prose), mark
    with pytest.raises(ScriptError, match="what it does not show"):
        build('{{ ref("figures/ex9_none") }}', root)


def test_the_numbers_are_those_of_the_json_files(root):
    text = build_report(root)
    for file, *keys in (
        ("ex1", "mse_test"),
        ("ex4", "train", "cross_entropy"),
        ("ex6", "test", "output", "psnr"),
        ("ex8_test_set", "test", "MAP", "psnr"),
    ):
        made_up = json.loads((root / "figures" / f"{file}.json").read_text())
        committed = json.loads((ROOT / "figures" / f"{file}.json").read_text())
        for key in keys:
            made_up, committed = made_up[key], committed[key]
        digits = 2 if keys[-1] == "psnr" else 4
        assert f"{made_up:.{digits}f}" in text
        assert f" {committed:.{digits}f} " not in text


def test_code_is_taken_by_name_without_its_docstring():
    text = code("models.py", "reparameterize")
    assert text.splitlines()[1] == "# models.py: reparameterize"
    assert text.splitlines()[2].startswith("def reparameterize(")
    assert "torch.randn_like" in text
    assert "equation (.1)" not in text
    part = code("ex3_knn.py", "main", "(a)")
    assert part.splitlines()[2].startswith("# (a)")
    assert "(b)" not in part
    with pytest.raises(AttributeError, match="no_such_name"):
        code("models.py", "no_such_name")


@pytest.mark.usefixtures("committed_checkpoints")
def test_the_committed_report_is_the_one_that_is_built_now():
    built, committed = (
        NUMBER.split(text)
        for text in (build_report(ROOT), (ROOT / "REPORT.md").read_text(encoding="utf-8"))
    )
    # Figures drawn on another processor leave numbers that differ a little, and wider columns.
    assert [re.sub(r"[\s-]", "", text) for text in built[::2]] == [
        re.sub(r"[\s-]", "", text) for text in committed[::2]
    ]
    for ours, theirs in zip(built[1::2], committed[1::2], strict=True):
        last_digit = 10.0 ** -len(theirs.partition(".")[2])
        ours, theirs = (float(number.replace(",", "")) for number in (ours, theirs))
        assert ours == pytest.approx(theirs, rel=0.01, abs=3.1 * last_digit)
