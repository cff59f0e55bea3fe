"""``python -m scree``: the report, the demo, and the ways to call it wrongly."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

import scree
from scree import __main__ as command_line
from scree import report
from scree_core import BackendState
from scree_core.backend import OPS

STATES = [
    BackendState("numpy", "ok", "2.4.6", None, dict.fromkeys(OPS, "native")),
    BackendState("torch", "ok", "2.13.0+cu130", None, dict.fromkeys(OPS, "default")),
    BackendState("torch.triton", "ok", "3.6.0", None, {"varlen_attention": "native"}),
    BackendState("jax", "not installed", None, 'pip install "scree[jax]"', {}),
]
BROKEN = BackendState("mlx", "broken", None, "libmlx.so: cannot open shared object file\n" * 5, {})


def lines_of(text, start):
    return [line.split() for line in text.splitlines() if line.split()[:1] == [start]]


def test_the_report_names_scree_python_and_numpy():
    heading = report.render(STATES).splitlines()[:2]
    assert heading[0] == f"scree {scree.__version__}"
    assert heading[1].startswith(f"Python {sys.version.split()[0]} on {sys.platform}")
    assert "NumPy 2" in heading[1]


def test_a_backend_asked_for_by_the_environment_is_named(monkeypatch):
    assert "SCREE_BACKEND" not in report.render(STATES)
    monkeypatch.setattr(report, "ENVIRONMENT", "torch.triton")
    assert report.render(STATES).splitlines()[2] == "SCREE_BACKEND=torch.triton"


def test_each_backend_has_a_line_with_version_and_state():
    text = report.render(STATES)
    assert ["torch", "2.13.0+cu130", "ok"] in lines_of(text, "torch")
    assert 'jax           -             not installed: pip install "scree[jax]"' in text


def test_a_long_reason_is_wrapped_under_itself():
    lines = report.render([*STATES, BROKEN]).splitlines()
    first = next(i for i, line in enumerate(lines) if "broken:" in line)
    indent = lines[first].index("broken:")
    assert lines[first + 1][:indent].isspace()
    assert lines[first + 1][indent:].startswith("object") or lines[first + 1][indent] != " "


def test_the_report_fits_80_columns():
    assert max(map(len, report.render([*STATES, BROKEN]).splitlines())) <= 80


@pytest.mark.parametrize("op", OPS)
def test_each_op_has_a_line_that_tells_who_provides_it(op):
    over_torch = "native" if op == "varlen_attention" else "-"
    assert lines_of(report.render(STATES), op) == [[op, "native", "default", over_torch]]


def test_the_meaning_of_the_dash_is_told_only_where_there_is_one():
    assert "\n-:" in report.render(STATES)
    assert "\n-:" not in report.render(STATES[:2])


def test_the_report_is_ascii():
    assert report.render([*STATES, BROKEN]).isascii()


def test_it_exits_with_0_where_nothing_installed_is_broken(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "backends", lambda: STATES)
    assert command_line.main([]) == 0
    assert capsys.readouterr().out == report.render(STATES) + "\n"


def test_it_exits_with_1_where_an_installed_backend_is_broken(monkeypatch):
    monkeypatch.setattr(command_line, "backends", lambda: [*STATES, BROKEN])
    assert command_line.main([]) == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["demo", "twice"], ["audit", "twice"]])
def test_an_unknown_argument_gets_the_usage_and_exit_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m scree" in capsys.readouterr().err


def test_version_and_help_exit_with_0(capsys):
    for argument, told in (
        ("--version", f"scree {scree.__version__}\n"),
        ("--help", "demo"),
        ("--help", "scree.audit.leaks"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command_line.main([argument])
        assert stopped.value.code == 0
        assert told in capsys.readouterr().out


def test_the_module_runs_and_passes_on_its_exit_status():
    run = subprocess.run([sys.executable, "-m", "scree", "nonsense"], capture_output=True, text=True)
    assert run.returncode == 2


def test_the_demo_agrees_with_padding_and_reports_it():
    # One BLAS thread: on a busy machine two of them wait for each other at every product.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scree", "demo"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    numbers = {name: lines_of(run.stdout, name)[0] for name in ("tokens", "time,")}
    packed_tokens, padded_tokens = (int(number.replace(",", "")) for number in numbers["tokens"][1:3])
    assert 5_000 < packed_tokens < padded_tokens
    assert "float32 rounding" in run.stdout


def test_the_audit_finds_what_is_known_or_says_what_to_install():
    run = subprocess.run([sys.executable, "-m", "scree", "audit"], capture_output=True, text=True)
    if find_spec("scree_torch") is None:
        assert run.returncode == 1
        assert 'pip install "scree[torch]"' in run.stderr
        assert "Traceback" not in run.stderr
        return
    assert run.returncode == 0, run.stderr
    passed, found = run.stdout.index("no row reaches another"), run.stdout.index("first in attention (Attention)")
    assert passed < found
    assert run.stdout.rstrip().endswith("as expected")
