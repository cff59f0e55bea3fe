"""The file of tuned tiles: who finds what in it, and what happens where it can't be used."""

import json
import threading
import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from scree_triton.attention import choice, configs, tuned  # noqa: E402
from scree_triton.attention.choice import choose  # noqa: E402
from scree_triton.attention.configs import Setting, Tile  # noqa: E402

GPU = torch.device("cuda", 0)
SETTING = Setting("forward", 64, 2, True)
OTHER = [16, 16, 1, 1]


@pytest.fixture(autouse=True)
def _on_a_gpu(monkeypatch, tmp_path):
    """As on a GPU that isn't needed to look something up, with a cache of its own."""
    monkeypatch.setenv("SCREE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tuned, "_known", None)
    monkeypatch.setattr(tuned, "environment", lambda device, architecture: f"{device}, {architecture}")
    monkeypatch.setattr(configs, "architecture_of", lambda device: "sm_90")
    monkeypatch.setattr(choice, "INTERPRETED", False)


def forget(monkeypatch):
    """As another process, which has read nothing yet."""
    monkeypatch.setattr(tuned, "_known", None)


def keep(name, tile=OTHER):
    return tuned.keep({name: {"tile": tile, "ms": 1.0}}, GPU, "sm_90")


def test_what_was_tuned_comes_before_the_tables(monkeypatch):
    table = choose(SETTING, 512, GPU)
    assert table == configs.default(SETTING, 512, "sm_90") != Tile(*OTHER)
    path = keep(configs.name_of(SETTING, 512))
    assert choose(SETTING, 512, GPU) == Tile(*OTHER)
    forget(monkeypatch)
    assert choose(SETTING, 512, GPU) == Tile(*OTHER)
    assert path == tuned.path()
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, path.with_suffix(".lock").name}


def test_a_tile_may_limit_the_registers_of_a_thread(monkeypatch):
    limited = configs.Tile(64, 64, 4, 3, 96)
    keep(configs.name_of(SETTING, 512), list(limited.numbers))
    forget(monkeypatch)
    assert choose(SETTING, 512, GPU) == limited
    assert str(limited) == "64x64x4x3x96"
    assert limited.options == {"num_warps": 4, "num_stages": 3, "maxnreg": 96}
    free = configs.Tile(64, 64, 4, 3)
    assert str(free) == "64x64x4x3"
    assert free.numbers == (64, 64, 4, 3)
    assert free.options == {"num_warps": 4, "num_stages": 3}


def test_it_counts_for_rows_up_to_twice_as_long():
    keep(configs.name_of(SETTING, 700))
    for mean, found in ((511, False), (512, True), (1023.9, True), (1024, False)):
        assert (choose(SETTING, mean, GPU) == Tile(*OTHER)) == found
    keep(configs.name_of(SETTING, 0.5))
    assert choose(SETTING, 0.5, GPU) == Tile(*OTHER)
    assert choose(SETTING, 1, GPU) != Tile(*OTHER)


@pytest.mark.parametrize("other", [{"kind": "keys"}, {"width": 128}, {"itemsize": 4}, {"causal": False}], ids=str)
def test_it_counts_for_nothing_else(other):
    keep(configs.name_of(SETTING, 512))
    another = SETTING._replace(**other)
    assert choose(another, 512, GPU) == configs.default(another, 512, "sm_90")


def test_the_interpreter_uses_tables_alone(monkeypatch):
    keep(configs.name_of(SETTING, 512))
    assert choose(SETTING, 512, torch.device("cpu")) == configs.default(SETTING, 512, "sm_90")
    monkeypatch.setattr(choice, "INTERPRETED", True)
    assert choose(SETTING, 512, GPU) == configs.default(SETTING, 512, "sm_90")


def test_what_was_tuned_elsewhere_is_stale_but_stays(monkeypatch):
    keep(configs.name_of(SETTING, 512))
    monkeypatch.setattr(tuned, "environment", lambda device, architecture: "another compiler")
    forget(monkeypatch)
    assert choose(SETTING, 512, GPU) == configs.default(SETTING, 512, "sm_90")
    path = keep("something else")
    assert [*json.loads(path.read_text())] == ["cuda:0, sm_90", "another compiler"]


def test_no_file_is_no_warning_and_looks_for_no_device(monkeypatch):
    monkeypatch.setattr(tuned, "environment", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuned.find("anything", GPU, "sm_90") is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"a": 1}',
        '{"a": {"b": []}}',
        '{"a": {"b": {}}}',
        '{"a": {"b": {"tile": [64, 64]}}}',
        '{"a": {"b": {"tile": [64, 64, 4, "3"]}}}',
        '{"a": {"b": {"tile": [64, 64, 4, 0]}}}',
        '{"a": {"b": {"tile": [64, 64, 4, 3, 0]}}}',
        '{"a": {"b": {"tile": [64, 64, 4, 3, 96, 1]}}}',
        b"\xff",
    ],
    ids=str,
)
def test_a_broken_file_is_warned_of_once_and_replaced(text, monkeypatch):
    path = tuned.path()
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.warns(RuntimeWarning, match="can't use the tuned tiles") as told:
        assert choose(SETTING, 512, GPU) == configs.default(SETTING, 512, "sm_90")
    assert len(told) == 1
    assert str(path) in str(told[0].message)
    assert "delete the file, or tune again" in str(told[0].message)
    choose(SETTING, 512, GPU)  # an error, if it warned again
    keep(configs.name_of(SETTING, 512))
    forget(monkeypatch)
    assert choose(SETTING, 512, GPU) == Tile(*OTHER)


def test_where_nothing_can_be_written_it_counts_for_the_process(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SCREE_CACHE_DIR", str(tmp_path / "file" / "below"))
    forget(monkeypatch)
    with pytest.warns(RuntimeWarning, match="can't") as told:
        assert keep(configs.name_of(SETTING, 512)) is None
    assert "set SCREE_CACHE_DIR to a folder that can be written" in str(told[-1].message)
    assert choose(SETTING, 512, GPU) == Tile(*OTHER)


def test_a_write_that_fails_leaves_the_file_as_it_was(monkeypatch):
    path = keep("first")
    before = path.read_text()

    def fail(*names):
        raise OSError("no space")

    monkeypatch.setattr(tuned.os, "replace", fail)
    with pytest.warns(RuntimeWarning, match="no space"):
        assert keep("second") is None
    assert path.read_text() == before
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, path.with_suffix(".lock").name}


def test_writers_at_the_same_time_lose_nothing():
    together = threading.Barrier(8)

    def write(i):
        together.wait()
        for j in range(5):
            keep(f"{i} {j}")

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (found,) = json.loads(tuned.path().read_text()).values()
    assert set(found) == {f"{i} {j}" for i in range(8) for j in range(5)}


def test_two_processes_keep_what_the_other_found(monkeypatch):
    keep("first")
    forget(monkeypatch)
    tuned._entries()
    path = tuned.path()
    path.write_text(path.read_text().replace("first", "renamed"))
    keep("second")
    (found,) = json.loads(path.read_text()).values()
    assert [*found] == ["renamed", "second"]


def test_where_the_file_is(monkeypatch, tmp_path):
    assert tuned.path() == tmp_path / "cache" / tuned.FILE
    monkeypatch.delenv("SCREE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert tuned.path() == tmp_path / "xdg" / "scree" / tuned.FILE
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert tuned.path() == tmp_path / ".cache" / "scree" / tuned.FILE


def test_a_change_of_the_kernels_makes_what_was_tuned_stale(monkeypatch, tmp_path):
    found = tuned.kernels.__wrapped__()
    assert found == tuned.kernels()
    (tmp_path / "forward.py").write_text("one")
    monkeypatch.setattr(tuned.resources, "files", lambda package: tmp_path)
    first = tuned.kernels.__wrapped__()
    (tmp_path / "forward.py").write_text("two")
    assert len({found, first, tuned.kernels.__wrapped__()}) == 3


def test_the_compiler_is_named():
    assert tuned.compiler("sm_90").startswith("ptxas ")


MEASURED = {"device", "date", "torch", "triton", "ptxas", "driver", "command", "reached"}


@pytest.mark.parametrize("name", configs.tables())
def test_a_table_says_what_it_was_measured_on_or_that_it_was_not(name):
    table = configs.tables()[name]
    measured = table["measured"]
    if measured is None:
        assert table["note"]
    else:
        assert set(measured) >= MEASURED
        assert {(row["itemsize"], row["width"]) for row in table["tiles"]} == {*map(tuple, measured["reached"])}


def test_every_setting_has_a_tile_on_every_architecture():
    for architecture in (*configs.tables(), "sm_103", "gfx1100", "interpreter"):
        for kind in configs.KINDS:
            for width in (16, 32, 64, 128, 256):
                for itemsize in (2, 4):
                    for causal in (True, False):
                        for mean in (0.5, 4096):
                            assert configs.default(Setting(kind, width, itemsize, causal), mean, architecture)


def test_gpus_that_people_have_are_named():
    assert {"sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942"} < set(configs.tables())
