"""Tuning attention: what is tried and taken, by times that the test makes up, and what it changes for later calls."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import scree_core as scree  # noqa: E402
from scree_core.explain import prepared  # noqa: E402
from scree_torch.varlen_attention import Options  # noqa: E402
from scree_triton import launch  # noqa: E402
from scree_triton.attention import choice, configs, run, tuned, tuning, variants  # noqa: E402
from scree_triton.attention.candidates import candidates  # noqa: E402
from scree_triton.attention.configs import KINDS, Setting, Tile  # noqa: E402
from scree_triton.overlay import TritonOverlay  # noqa: E402

# A kernel that is timed alone reads what the other one hasn't written; NumPy, in the interpreter, says so.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|underflow) encountered:RuntimeWarning")
interpreted = pytest.mark.skipif(not launch.INTERPRETED, reason="times are made up: run with TRITON_INTERPRET=1")
FAST, SLOW = Tile(16, 16, 2, 1), Tile(16, 32, 2, 1)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SCREE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuned, "_known", None)
    yield
    run.renew()


@pytest.fixture
def _looked_up(monkeypatch):
    """Let tuned tiles be found on the CPU too; of candidates there are two."""
    monkeypatch.setattr(tuned, "environment", lambda device, architecture: "here")
    monkeypatch.setattr(tuning, "candidates", lambda setting, architecture, default: [default, FAST, SLOW])

    def choose(setting, mean, device):
        found = tuned.find(configs.name_of(setting, mean), device, "interpreter")
        return Tile(*found) if found else configs.default(setting, mean, "interpreter")

    monkeypatch.setattr(tuning, "choose", choose)
    monkeypatch.setattr(variants, "choose", choose)


def rows(lengths, heads=2, head_dim=16, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scree.from_lengths(torch.randn(sum(lengths), heads, head_dim, generator=generator).to(dtype), lengths)


def tune(*arrays, gradient=False, time, **options):
    call = prepared("varlen_attention", *arrays, **options)
    given = dict(call.kwargs)
    sinks, want_lse = given.pop("sinks"), given.pop("return_lse")
    return tuning.tune(*call.args, sinks, Options(**given), want_lse=want_lse, gradient=gradient, time=time)


class Clock:
    """Times calls by the tile of the one kernel that they launch."""

    def __init__(self, monkeypatch, **ms):
        self.ms = {Tile(*map(int, name[1:].split("x"))): spent for name, spent in ms.items()}
        self.launched = []
        launch_ = launch.Variant.__call__

        def noting(variant, programs, *arguments):
            constants = variant._constants
            if programs and "BLOCK_D" in constants:
                blocks = constants["BLOCK_M"], constants["BLOCK_N"]
                self.launched.append((variant._kernel.fn.__name__, Tile(*blocks, *variant._options.values())))
            launch_(variant, programs, *arguments)

        monkeypatch.setattr(launch.Variant, "__call__", noting)

    def __call__(self, call):
        self.launched.clear()
        call()
        ((_, tile),) = self.launched
        return self.ms.get(tile, 1.0)


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_the_fastest_tile_is_taken_by_the_next_call_on_the_same_layout(monkeypatch):
    clock = Clock(monkeypatch, t16x16x2x1=0.5, t16x32x2x1=0.7)
    x = rows([20, 12])
    before = scree.varlen_attention(x, x, x, causal=True, backend="triton")
    default = clock.launched[-1][1]
    found = tune(x, x, x, causal=True, time=clock)
    (kernel,) = found.kernels
    assert kernel == ("forward", str(default), 1.0, "16x16x2x1", 0.5, 3)
    after = scree.varlen_attention(x, x, x, causal=True, backend="triton")
    assert clock.launched[-1] == ("forward_kernel", FAST)
    torch.testing.assert_close(after.values, before.values)
    assert found.path == str(tuned.path())
    assert "cpu: 32 bits, head_dim up to 16, causal, rows of 16 to 31 keys on average" in str(found)


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_each_kernel_of_backward_is_timed_alone(monkeypatch):
    clock = Clock(monkeypatch, t16x16x2x1=0.9, t16x32x2x1=0.5)
    q, k, sinks = rows([20, 1], heads=4), rows([9, 20], seed=1), torch.zeros(4)
    found = tune(q, k, k, sinks=sinks, window=(3, 2), return_lse=True, gradient=True, time=clock)
    assert [kernel.name for kernel in found.kernels] == [*KINDS]
    assert {kernel.best for kernel in found.kernels} == {"16x32x2x1"}
    clock.launched.clear()
    leaf = k.values.requires_grad_()
    out = scree.varlen_attention(q, k.with_values(leaf), k.with_values(leaf), sinks=sinks, backend="triton").values
    torch.autograd.grad(out.sum(), leaf)
    assert clock.launched == [(f"{kind}_kernel", SLOW) for kind in KINDS]


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_a_gradient_that_is_asked_for_is_tuned(monkeypatch):
    clock, x = Clock(monkeypatch), rows([5])
    leaf = x.with_values(x.values.requires_grad_())
    assert len(tune(leaf, leaf, leaf, time=clock).kernels) == 3
    with torch.no_grad():
        assert scree.varlen_attention(leaf, leaf, leaf, backend="triton").values.shape == x.values.shape


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_what_goes_to_kernels_for_hopper_is_left_out(monkeypatch):
    clock, x = Clock(monkeypatch), rows([5])
    with monkeypatch.context() as backward:
        backward.setattr(tuning.hopper_backward, "takes", lambda given: True)
        assert [kernel.name for kernel in tune(x, x, x, gradient=True, time=clock).kernels] == ["forward"]
    monkeypatch.setattr(tuning.hopper_forward, "takes", lambda *call: True)
    assert [kernel.name for kernel in tune(x, x, x, gradient=True, time=clock).kernels] == [*KINDS[1:]]
    with pytest.raises(scree.ArgumentError, match="kernels for Hopper"):
        tune(x, x, x, time=clock)


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_noise_changes_nothing(monkeypatch):
    clock, x = Clock(monkeypatch, t16x16x2x1=0.985), rows([5])
    (kernel,) = tune(x, x, x, time=clock).kernels
    assert kernel.best == kernel.default
    clock.ms[FAST] = 0.975
    (kernel,) = tune(x, x, x, time=clock).kernels
    assert kernel.best == "16x16x2x1"


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_a_lucky_first_measurement_is_not_enough(monkeypatch):
    clock, x = Clock(monkeypatch), rows([5])
    first = iter([1.0, 0.1])  # the tile in use, then the first candidate
    (kernel,) = tune(x, x, x, time=lambda call: next(first, clock(call))).kernels
    assert kernel.best == kernel.default


@interpreted
@pytest.mark.usefixtures("_looked_up")
@pytest.mark.parametrize("fault", ["wrong", "not finite", "doesn't compile"])
def test_a_tile_that_fails_or_is_wrong_is_not_taken(monkeypatch, fault):
    clock, x = Clock(monkeypatch, t16x16x2x1=0.1), rows([5])
    prepare = tuning.Bench.prepare

    def faulty(bench, kind, tile):
        check, timed = prepare(bench, kind, tile)
        if tile != FAST:
            return check, timed
        if fault == "doesn't compile":
            raise RuntimeError("PassManager::run failed")
        return lambda: tuple(x * (1.0001 if fault == "wrong" else torch.nan) for x in check()), timed

    monkeypatch.setattr(tuning.Bench, "prepare", faulty)
    (kernel,) = tune(x, x, x, time=clock).kernels
    assert (kernel.best, kernel.tried) == (kernel.default, 2)


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_what_is_not_finite_can_not_be_compared(monkeypatch):
    x = rows([5])
    x.values[0] = torch.inf
    with pytest.raises(scree.ArgumentError, match="give it finite values"):
        tune(x, x, x, time=Clock(monkeypatch))


@interpreted
def test_nothing_is_nothing_to_tune(monkeypatch):
    x = rows([0, 0])
    with pytest.raises(scree.ArgumentError, match=r"nothing to tune for \(0, 2, 16\) queries and \(0, 2, 16\) keys"):
        tune(x, x, x, time=Clock(monkeypatch))


@interpreted
def test_transforms_are_refused(monkeypatch):
    x = rows([5])

    def inside(values):
        tune(*(x.with_values(values),) * 3, time=Clock(monkeypatch))

    with pytest.raises(scree.UnsupportedError, match="outside transforms, compiled code and the capture"):
        torch.func.vmap(inside)(torch.zeros(2, 5, 2, 16))


@interpreted
def test_the_interpreter_and_other_ops_are_refused():
    x = rows([5])
    with pytest.raises(scree.UnsupportedError, match="unset TRITON_INTERPRET to tune"):
        scree.tune("varlen_attention", x, x, x, backend="triton")
    with pytest.raises(scree.UnsupportedError, match=r"nothing to tune in varlen_rmsnorm: .* is varlen_attention"):
        scree.tune("varlen_rmsnorm", x, backend="triton")
    with pytest.raises(scree.UnsupportedError, match="'torch' runs varlen_attention here and has nothing to tune"):
        scree.tune("varlen_attention", x, x, x)


def test_an_overlay_without_a_gpu_says_what_is_needed(monkeypatch):
    from scree_triton import overlay

    for name, value in (("_missing", None), ("INTERPRETED", False)):
        monkeypatch.setattr(overlay, name, value)
    x = rows([5])
    with pytest.raises(scree.UnsupportedError, match=r"torch\.triton: values are on cpu, need cuda"):
        scree.tune("varlen_attention", x, x, x)
    assert TritonOverlay.tune.__doc__


# ------------------------------------------------------------------ SCREE_TUNE


@interpreted
def test_only_who_asks_for_it_tunes_at_first_calls(monkeypatch):
    asked = []
    monkeypatch.setattr(tuning, "tune_new", lambda kind, *rest: asked.append(kind))
    x = rows([5], head_dim=24)
    leaf = x.values.requires_grad_()

    def step():
        out = scree.varlen_attention(*(x.with_values(leaf),) * 3, backend="triton").values
        torch.autograd.grad(out.sum(), leaf)

    run.renew()
    step()
    assert asked == []
    monkeypatch.setattr(variants, "AT_FIRST_CALL", True)
    run.renew()
    step()
    assert asked == [*KINDS]
    step()
    x = rows([5], head_dim=24, seed=1)
    leaf = x.values.requires_grad_()
    step()
    assert asked == [*KINDS]


@interpreted
@pytest.mark.usefixtures("_looked_up")
def test_a_first_call_is_measured_once_and_not_in_the_interpreter(monkeypatch):
    measured = []
    monkeypatch.setattr(tuning, "measured", lambda bench, kinds: measured.append(kinds) or [])
    x = rows([5])
    arrays = "forward", x.values, x.values, x.values, tuning.Batch(*(x.layout.offsets,) * 2, 5, 5)
    options = Options(False, 1.0, (-1, -1), None)
    tuning.tune_new(*arrays, options)
    assert measured == []
    monkeypatch.setattr(tuning, "INTERPRETED", False)
    tuning.tune_new(*arrays, options)
    assert measured == []  # on a CPU

    class Claims(torch.Tensor):
        is_cuda = True

    arrays = arrays[0], x.values.as_subclass(Claims), *arrays[2:]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    tuning.tune_new(*arrays, options)
    assert measured == []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    tuning.tune_new(*arrays, options)
    assert measured == [("forward",)]
    name = configs.name_of(Setting("forward", 16, 4, False), 4)
    tuned.keep({name: {"tile": list(FAST)}}, x.values.device, "interpreter")
    tuning.tune_new(*arrays, options)
    assert measured == [("forward",)]


@pytest.mark.parametrize(("value", "asked"), [(None, False), ("1", True)])
def test_the_variable_is_off_unless_set(value, asked):
    environment = {name: text for name, text in os.environ.items() if name != "SCREE_TUNE"}
    environment |= {} if value is None else {"SCREE_TUNE": value}
    code = "from scree_triton.attention.choice import AT_FIRST_CALL; print(AT_FIRST_CALL)"
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(asked)


# ------------------------------------------------------------------ candidates


@pytest.mark.parametrize("architecture", ["sm_90", "sm_80", "gfx942"])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_candidates_start_with_the_tile_in_use(kind, itemsize, architecture):
    for width in (16, 32, 64, 128, 256):
        setting = Setting(kind, width, itemsize, True)
        default = configs.default(setting, 512, architecture)
        found = candidates(setting, architecture, default)
        assert found[0] == default
        assert len(set(found)) == len(found) > 1
        if itemsize == 4:
            summed = 0 if kind == "keys" else 1
            assert all(tile[summed] >= default[summed] for tile in found)


# ------------------------------------------------------------------ on a GPU


@pytest.mark.cuda
@pytest.mark.skipif(launch.INTERPRETED, reason="the interpreter's times say nothing")
def test_a_gpu_is_tuned_and_later_processes_know(monkeypatch):
    values = torch.randn(512, 2, 64, device="cuda", dtype=torch.bfloat16).requires_grad_()
    x = scree.Array(values, torch.tensor([0, 200, 512], device="cuda", dtype=torch.int32))
    found = scree.tune("varlen_attention", x, x, x, causal=True)
    assert [kernel.name for kernel in found.kernels] == [*KINDS]
    assert all(kernel.tried > 1 and kernel.ratio <= 1 for kernel in found.kernels)
    monkeypatch.setattr(tuned, "_known", None)
    for kernel in found.kernels:
        assert str(choice.choose(Setting(kernel.name, 64, 2, True), 256, values.device)) == kernel.best
    run.renew()
    out = scree.varlen_attention(x, x, x, causal=True).values
    expected = scree.varlen_attention(x, x, x, causal=True, backend="torch").values
    torch.testing.assert_close(out, expected, rtol=2e-2, atol=2e-2)
