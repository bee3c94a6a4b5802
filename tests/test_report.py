"""The report: complete, within its size, with the numbers of the json files, and never stale."""

import re

import pytest
from conftest import PROJECT, numbers

from common.plotting import plt, save_figure
from common.script import ScriptError
from report.build import TEMPLATE, build, code, write_pdf

REPORT = (PROJECT / "REPORT.md").read_text(encoding="utf-8")
LISTINGS = re.findall(r"```python\n# [^\n]*\n(.*?)```", REPORT, re.DOTALL)
NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)")


@pytest.mark.slow
def test_the_report_is_set_as_a_pdf_that_is_the_same_every_time(tmp_path):
    save_figure(plt.figure(), tmp_path / "empty")
    text = "# Title\n\n## Part\n\nAn equation, $x^2$.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    text += '{{ figure("empty", "Axes (empty).", "Two axes") }}'
    text = build(text, tmp_path, for_pdf=True)
    for name in ("a.pdf", "b.pdf"):
        write_pdf(text, tmp_path / name, {"name": "Ada", "number": "", "date": ""})
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert content == (tmp_path / "b.pdf").read_bytes()
    assert b"Two axes" in content


def test_every_part_of_the_assignment_has_its_heading_and_its_answer():
    heading = r"^####? (?:Exercise )?(\d[a-e]?)(?: \([\d.]+ points?\))?$"
    _, *sections = re.split(heading, REPORT, flags=re.MULTILINE)
    answers = dict(zip(sections[::2], sections[1::2], strict=True))
    assert "".join(answers) == "122a2b2c33a3b3c44a4b4c55a5b677a7b7c7d7e88a8b8c"
    for part, answer in answers.items():
        if part not in "234578":  # they have parts
            assert len(answer) > 200, part


def test_the_report_has_at_most_the_size_that_a_reader_takes():
    lines = "".join(LISTINGS).splitlines()
    assert len(lines) <= 140
    assert max(map(len, lines)) <= 88  # at 8 pt
    prose = REPORT.partition("## References")[0]
    for other in (r"```.*?```", r"\$\$.*?\$\$", r"!\[.*?\]\(.*?\)", r"^\|.*?$"):
        prose = re.sub(other, "", prose, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) <= 3800
    for mark in (r"\{\{", r"\{%", r"%\}", r"FINAL", r"Figure \?", r"\bNone\b", r"\bnan\b"):
        assert not re.search(mark, prose), mark


def test_figures_and_tables_exist_have_captions_and_are_referred_to():
    for alt, path in re.findall(r"!\[(.*?)\]\((.+?)\)", REPORT):
        assert 20 < len(alt) < 200
        assert (PROJECT / path).exists()
    for kind, least, most in (("Figure", 15, 17), ("Table", 6, 9)):
        caption = re.compile(rf"^\*{kind} (\d+)\. .+\*$", flags=re.MULTILINE)
        counted = [str(number) for number in range(1, len(caption.findall(REPORT)) + 1)]
        assert caption.findall(REPORT) == counted
        assert least <= len(counted) <= most
        assert set(re.findall(rf"{kind} (\d+)", caption.sub("", REPORT))) == set(counted)
    with pytest.raises(ScriptError, match="what it does not show"):
        build('{{ ref("figures/ex9_none") }}', PROJECT)


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
    built = NUMBER.split(build(TEMPLATE.read_text(encoding="utf-8"), PROJECT))
    committed = NUMBER.split(REPORT)
    # Figures drawn on another processor leave numbers that differ a little, and wider columns.
    assert [re.sub(r"[\s-]", "", text) for text in built[::2]] == [
        re.sub(r"[\s-]", "", text) for text in committed[::2]
    ]
    for ours, theirs in zip(built[1::2], committed[1::2], strict=True):
        last_digit = 10.0 ** -len(theirs.partition(".")[2])
        ours, theirs = (float(number.replace(",", "")) for number in (ours, theirs))
        assert ours == pytest.approx(theirs, rel=0.01, abs=3.1 * last_digit)


@pytest.mark.usefixtures("committed_checkpoints")
def test_sentences_and_rows_have_the_numbers_that_they_speak_of():
    ex1, ex3, ex4, ex6, ex7, ex8, tests = (
        numbers(f"figures/ex{n}") for n in (1, 3, 4, 6, 7, 8, "8_test_set")
    )
    seeds = numbers("studies/seeds")
    rows = {
        "noisy images": tests["test"]["noisy"],
        "output of the VAE (8a)": ex8["test"]["output"],
        "MAP estimate (8b)": tests["test"]["MAP"],
        "output of the VAE for clean images": ex8["test"]["output for clean"],
        "output of the autoencoder (6)": ex6["test"]["output"],
    }
    quotes = {rf"^\| {re.escape(name)} ": list(row.values()) for name, row in rows.items()}
    for name, key in (
        ("autoencoder: MSE", "autoencoder, mse"),
        ("classifier: acc", "classifier, acc"),
    ):
        values = [v for seed in seeds for k, v in seed.items() if k.startswith(key)]
        quotes[rf"^\| {name}[^|]*"] = [sum(values) / 3, *values]
    quotes |= {
        "It ends at": [ex1["mse_test"], ex1["mse_train"]],
        "first 1,000: correct ": ex3["first"]["correct_per_digit"],
        r"all 10,000: correct \(%\)": ex3["all"]["accuracy_per_digit"],
        r"\*\*The classifier reaches": [ex4["test"]["accuracy"]],
        r"the\s+PSNR\s+rises\s+from": [ex6["test"]["noisy"]["psnr"], ex6["test"]["output"]["psnr"]],
        "The MSE is(?=.0)": [ex7["VAE"]["mse"], ex7["autoencoder"]["mse"]],
        r"\*\*The MAP estimate is better, by": [
            tests["test"]["MAP"]["psnr"] - ex8["test"]["output"]["psnr"]
        ],
    }
    for start, values in quotes.items():
        found = re.search(start + r"(.{300})", REPORT, re.DOTALL | re.MULTILINE)
        quoted = re.findall(r"\d+(?:\.\d+)?", found[1])[: len(values)]
        for number, value in zip(quoted, values, strict=True):
            last_digit = 10.0 ** -len(number.partition(".")[2])
            assert float(number) == pytest.approx(value, abs=0.51 * last_digit, rel=2e-4), start
