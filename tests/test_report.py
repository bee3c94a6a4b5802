"""The report: complete, from whatever numbers the scripts have written, and never stale."""

import json
import re
import shutil
from pathlib import Path

import pytest

import report
from options import run

ROOT = Path(__file__).resolve().parent.parent


def made_up(value):
    """The same json with every number another one."""
    if isinstance(value, dict):
        return {key: made_up(item) for key, item in value.items()}
    if isinstance(value, list):
        return [made_up(item) for item in value]
    return value + 1 if isinstance(value, int) else 1.37 * value


@pytest.fixture
def figures(tmp_path):
    """A folder like `figures/`, its numbers made up and its figures empty."""
    for path in (ROOT / "figures").rglob("*"):
        copy = tmp_path / "figures" / path.relative_to(ROOT / "figures")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            copy.write_text(json.dumps(made_up(json.loads(path.read_text()))))
        elif path.suffix == ".png":
            copy.touch()
    return tmp_path / "figures"


def build(figures, capsys):
    output = figures.parent / "REPORT.md"
    report.main(["--figures-dir", str(figures), "--output", str(output)])
    capsys.readouterr()
    return output.read_text(encoding="utf-8")


def test_every_part_of_the_assignment_has_its_heading_and_its_answer(figures, capsys):
    text = build(figures, capsys)
    sections = re.split(r"^####? (?:Exercise )?(\d[a-e]?)$", text, flags=re.MULTILINE)
    answers = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(answers) == [
        *("1", "2", "2a", "2b", "2c", "3", "3a", "3b", "3c", "4", "4a", "4b", "4c"),
        *("5", "5a", "5b", "6", "7", "7a", "7b", "7c", "7d", "7e", "8", "8a", "8b", "8c"),
    ]
    for part, answer in answers.items():
        if part not in "234578":
            assert len(answer) > 200, part


def test_every_figure_exists_has_a_caption_and_is_spoken_of(figures, capsys):
    text = build(figures, capsys)
    linked = re.findall(r"!\[(\w+)\]\((.+?)\)", text)
    assert len(linked) >= 20
    for name, path in linked:
        assert path == f"figures/{name}.png"
        assert (figures / f"{name}.png").exists()
    caption = re.compile(r"^\*Figure (\d+)\. .+\*$", flags=re.MULTILINE)
    numbers = [str(number) for number in range(1, len(linked) + 1)]
    assert caption.findall(text) == numbers
    assert set(re.findall(r"Figure (\d+)", caption.sub("", text))) == set(numbers)


def test_a_reference_to_no_figure_is_an_error(figures):
    with pytest.raises(report.ReportError, match="ex9_none"):
        report.build('{{ ref("ex9_none") }}', figures, "figures")


def test_no_placeholder_is_left(figures, capsys):
    text = build(figures, capsys)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for mark in (r"\{\{", r"\{%", r"%\}", r"\bTODO\b", r"Figure \?", r"\bNone\b", r"\bnan\b"):
        assert not re.search(mark, prose), mark


def test_the_numbers_are_those_of_the_json_files(figures, capsys):
    text = build(figures, capsys)
    for file, *keys in (
        ("ex1", "mse_test"),
        ("ex4", "train", "cross_entropy"),
        ("ex6", "test", "output", "psnr"),
        ("ex8_test_set", "test", "MAP", "psnr"),
    ):
        made_up = json.loads((figures / f"{file}.json").read_text())
        committed = json.loads((ROOT / "figures" / f"{file}.json").read_text())
        for key in keys:
            made_up, committed = made_up[key], committed[key]
        digits = 2 if keys[-1] == "psnr" else 4
        assert f"{made_up:.{digits}f}" in text
        assert f" {committed:.{digits}f} " not in text


@pytest.mark.parametrize(
    ("missing", "script"),
    [
        ("ex3.json", "ex3_knn.py"),
        ("ex4_augmented.json", "ex4_classifier.py --augment"),
        ("ex8_test_set.json", "ex8_map_denoise.py --test-set"),
        ("ex2_latent.png", "ex2_latent.py"),
        ("ex8_worst.png", "ex8_map_denoise.py --test-set"),
        ("ex7_balance.png", "ex7_vae.py --balance"),
    ],
)
def test_a_missing_file_is_one_line_that_names_the_script(figures, capsys, missing, script):
    (figures / missing).unlink()
    output = figures.parent / "REPORT.md"
    with pytest.raises(SystemExit) as stop:
        run(lambda: report.main(["--figures-dir", str(figures), "--output", str(output)]))
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert missing in line
    assert line.endswith(f"run python {script} first")
    assert not output.exists()


def test_code_is_taken_by_name_without_its_docstring():
    text = report.code("models.py", "reparameterize")
    assert text.splitlines()[1].startswith("def reparameterize(")
    assert "torch.randn_like" in text
    assert "equation (.1)" not in text
    assert text.count("```") == 2
    part = report.code("ex3_knn.py", "main", "(a)")
    assert part.splitlines()[1].startswith("# (a)")
    assert "(b)" not in part
    with pytest.raises(report.ReportError, match="no_such_name"):
        report.code("models.py", "no_such_name")
    with pytest.raises(report.ReportError, match="no such part"):
        report.code("ex3_knn.py", "main", "no such part")


def test_the_committed_report_is_the_one_that_is_built_now(tmp_path, capsys, monkeypatch):
    shutil.copytree(ROOT / "figures", tmp_path / "figures")
    monkeypatch.chdir(tmp_path)
    report.main([])
    assert (tmp_path / "REPORT.md").read_text() == (ROOT / "REPORT.md").read_text()
