"""Finding backends by name: which type is whose, what loads when, and how a broken plugin fails."""

import importlib.metadata

import numpy as np
import pytest

import scree_core as scree
from scree_core import registry
from scree_core.backend import CONTRACT
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


class Toy(LoopbackBackend):
    """Served by name: the root module of ``LoopbackArray`` is ``scree_core``."""

    name = "scree_core"

    def array_types(self):
        return (LoopbackArray,)


def array_type(module, name="Tensor", *bases):
    return type(name, bases or (object,), {"__module__": module})


# ------------------------------------------------------------------ by type


def test_numpy_is_always_there(plugins):
    assert registry.backend_of(np.zeros(1)).name == "numpy"
    assert registry.candidates(np.ndarray).overlays == ()


@pytest.mark.parametrize("make", [np.memmap, np.recarray, type("Mine", (np.ndarray,), {})])
def test_subclasses_belong_to_the_backend_of_their_base(plugins, make):
    assert registry.candidates(make).base.name == "numpy"


@pytest.mark.parametrize("make", [np.ma.MaskedArray, type("Mine", (np.ma.MaskedArray,), {})])
def test_a_masked_array_is_nobodys(plugins, make):
    with pytest.raises(scree.ArgumentTypeError, match=f"a {make.__name__} has a mask, which scree would lose"):
        registry.candidates(make)
    assert not registry.load("numpy").owns(np.zeros(3).view(make))


def test_a_matrix_has_no_mask(plugins):
    assert registry.candidates(np.matrix).base.name == "numpy"


def test_a_type_belongs_to_the_backend_named_like_its_root_module(plugins):
    plugins({"scree_core": Toy})
    assert registry.candidates(array_type("scree_core.deep.inside")).base.name == "scree_core"


def test_a_type_belongs_to_the_first_of_its_bases_that_has_a_backend(plugins):
    plugins({"scree_core": Toy})
    assert registry.candidates(array_type("elsewhere", "Sub", LoopbackArray)).base.name == "scree_core"


def test_types_of_jaxlib_belong_to_jax(plugins):
    class Jax(LoopbackBackend):
        name = "jax"

    plugins({"jax": Jax})
    assert registry.candidates(array_type("jaxlib._jax", "ArrayImpl")).base.name == "jax"


def test_a_backend_is_made_once_and_when_first_met(plugins):
    made = []

    class Counted(Toy):
        def __init__(self):
            made.append(self)

    plugins({"scree_core": Counted})
    registry.backend_of(np.zeros(1))
    assert made == []
    for _ in range(2):
        assert registry.backend_of(LoopbackArray(np.zeros(1))) is registry.load("scree_core")
    assert len(made) == 1


def test_overlays_are_sorted_by_priority_then_name(plugins, overlay):
    ranks = {"numpy.a": 0, "numpy.b": 3, "numpy.c": 3, "numpy.d": -1}
    plugins({name: overlay(name, rank=rank) for name, rank in ranks.items()})
    assert [o.name for o in registry.candidates(np.ndarray).overlays] == ["numpy.b", "numpy.c", "numpy.a", "numpy.d"]


def test_overlays_of_a_longer_name_belong_to_another_backend(plugins, overlay):
    plugins({"numpylike.fast": overlay("numpylike.fast")})
    assert registry.candidates(np.ndarray).overlays == ()


# ------------------------------------------------------------------ nothing found


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("torch", "Tensor", "torch"), ("jaxlib._jax", "ArrayImpl", "jax"), ("mlx.core", "array", "mlx")],
)
def test_a_known_library_without_a_backend_says_what_to_install(plugins, module, name, extra):
    with pytest.raises(scree.BackendNotInstalledError) as caught:
        registry.candidates(array_type(module, name))
    assert str(caught.value) == (
        f"no scree backend is installed for {module.split('.')[0]}.{name}.\n"
        f'    pip install "scree[{extra}]"\n'
        "Installed backends: numpy."
    )
    assert isinstance(caught.value, ImportError)


def test_an_array_of_a_library_without_a_backend_is_refused_at_construction(plugins):
    values = array_type("torch")()
    values.shape, values.dtype = (3,), "float32"
    with pytest.raises(scree.BackendNotInstalledError, match=r'pip install "scree\[torch\]"'):
        scree.from_lengths(values, [1, 2])


def test_a_subclass_in_user_code_is_known_by_its_base(plugins):
    mine = array_type("mycode", "Weights", array_type("torch"))
    with pytest.raises(scree.BackendNotInstalledError, match=r'pip install "scree\[torch\]"'):
        registry.candidates(mine)


def test_an_unknown_library_says_which_entry_point_is_missing(plugins):
    with pytest.raises(scree.BackendNotInstalledError) as caught:
        registry.candidates(array_type("cupy._core", "ndarray"))
    assert str(caught.value) == (
        "no scree backend is installed for cupy.ndarray.\n"
        "    Install a package that offers the entry point 'cupy' in the group 'scree.backends', "
        "or convert the arrays to NumPy.\n"
        "Installed backends: numpy."
    )


@pytest.mark.parametrize("x", [[1.0], (1.0,), 1.0, "a", None, {}])
def test_what_is_no_array_at_all_is_to_be_converted(plugins, x):
    with pytest.raises(scree.BackendNotInstalledError, match=f"a {type(x).__name__} is no array; .* numpy.asarray"):
        registry.backend_of(x)


# ------------------------------------------------------------------ broken plugins


def test_a_plugin_that_fails_to_import_raises_with_its_cause(plugins):
    plugins({"scree_core": ModuleNotFoundError("No module named 'cuda_runtime'")})
    with pytest.raises(
        scree.BackendLoadError,
        match="'scree_core' is installed but can't be loaded: ModuleNotFoundError: No module named 'cuda_runtime'",
    ) as caught:
        registry.candidates(LoopbackArray)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert isinstance(caught.value, ImportError)


def test_a_plugin_that_fails_to_be_made_raises_with_its_cause(plugins):
    class Broken(Toy):
        def __init__(self):
            raise RuntimeError("driver too old")

    plugins({"scree_core": Broken})
    with pytest.raises(scree.BackendLoadError, match="RuntimeError: driver too old") as caught:
        registry.candidates(LoopbackArray)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_broken_overlay_is_never_silently_left_out(plugins):
    plugins({"numpy.fast": ImportError("no kernels")})
    with pytest.raises(scree.BackendLoadError, match=r"backend 'numpy.fast' .*no kernels"):
        scree.from_lengths(np.zeros(1), [1])


def test_a_plugin_that_failed_is_tried_again(plugins):
    plugins({"scree_core": ImportError("not yet")})
    with pytest.raises(scree.BackendLoadError):
        registry.load("scree_core")
    plugins({"scree_core": Toy})
    assert registry.load("scree_core").name == "scree_core"


def test_a_plugin_that_lacks_a_required_method_names_it(plugins):
    class Half(scree.Backend):
        name = "scree_core"

    plugins({"scree_core": Half})
    with pytest.raises(scree.BackendLoadError, match=r"TypeError: .*from_numpy"):
        registry.load("scree_core")


@pytest.mark.parametrize(("kind", "needed"), [("scree_core", "Backend"), ("numpy.fast", "Overlay")])
def test_an_entry_point_to_something_else_is_refused(plugins, kind, needed):
    plugins({kind: dict})
    with pytest.raises(scree.BackendLoadError, match=f"the entry point '{kind}' gave a dict, not a {needed}"):
        registry.load(kind)


def test_a_backend_under_an_overlays_name_is_refused(plugins, overlay):
    plugins({"numpy.fast": Toy, "other": overlay("other")})
    with pytest.raises(scree.BackendLoadError, match="gave a Toy, not a Overlay"):
        registry.load("numpy.fast")
    with pytest.raises(scree.BackendLoadError, match="gave a Noting, not a Backend"):
        registry.load("other")


def test_a_plugin_under_another_name_than_its_own_is_refused(plugins):
    plugins({"other": Toy})
    with pytest.raises(scree.BackendLoadError, match="'other' gave a backend that calls itself 'scree_core'"):
        registry.load("other")


def test_a_plugin_without_a_name_is_refused(plugins):
    class Nameless(scree.Backend):
        owns = from_numpy = to_numpy = xp = None

    plugins({"scree_core": Nameless})
    with pytest.raises(scree.BackendLoadError, match="calls itself None"):
        registry.load("scree_core")


def test_a_plugin_for_another_contract_is_refused(plugins):
    class Old(Toy):
        contract = CONTRACT + 1

    plugins({"scree_core": Old})
    with pytest.raises(
        scree.BackendLoadError,
        match=f"written for contract {CONTRACT + 1}, this scree has {CONTRACT}: upgrade the older",
    ):
        registry.load("scree_core")


# ------------------------------------------------------------------ entry points


@pytest.fixture
def points(monkeypatch):
    """Return a function that offers entry points, by name and value."""

    def offer(*pairs):
        found = [importlib.metadata.EntryPoint(name, value, registry.GROUP) for name, value in pairs]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found if group == registry.GROUP else [])
        for name, fresh in (("_found", None), ("_loaded", {}), ("_by_type", {})):
            monkeypatch.setattr(registry, name, fresh)

    return offer


def test_entry_points_are_found_by_name_and_not_imported(points):
    points(("zoo", "no.such:Module"), ("ark", "no.such:Other"))
    assert list(registry.installed()) == ["numpy", "ark", "zoo"]


def test_entry_points_are_loaded_when_asked_for(points):
    points(("loopback", "scree_core.testing.loopback:LoopbackBackend"))
    assert type(registry.load("loopback")) is LoopbackBackend


def test_two_packages_for_one_name_are_refused(points):
    points(("torch", "scree_torch.backend:TorchBackend"), ("torch", "rival:Backend"))
    with pytest.raises(
        scree.BackendLoadError,
        match=r"'torch' .*two installed packages offer it, rival:Backend and scree_torch.backend:TorchBackend",
    ):
        registry.load("torch")
    assert registry.load("numpy").name == "numpy"


def test_one_package_found_twice_on_the_path_is_one(points):
    points(("torch", "scree_torch.backend:TorchBackend"), ("torch", "scree_torch.backend:TorchBackend"))
    assert list(registry.installed()) == ["numpy", "torch"]


# ------------------------------------------------------------------ preload and names


def test_preloading_makes_a_backend_before_its_first_array(plugins, monkeypatch):
    plugins({"scree_core": Toy})
    scree.preload("scree_core")
    monkeypatch.setattr(registry, "_resolve", None)
    assert registry.candidates(LoopbackArray).base.name == "scree_core"


def test_preloading_nothing_in_particular_makes_all(plugins, overlay):
    plugins({"scree_core": Toy, "numpy.fast": overlay("numpy.fast")})
    scree.preload()
    assert set(registry._loaded) == {"numpy", "numpy.fast", "scree_core"}


def test_preloading_an_overlay_by_its_short_name_makes_its_base_too(plugins, overlay):
    plugins({"numpy.fast": overlay("numpy.fast")})
    scree.preload("fast")
    assert set(registry._loaded) == {"numpy", "numpy.fast"}


def test_preloading_a_name_of_two_overlays_makes_what_has_a_backend(plugins, overlay):
    plugins({"ark.fast": overlay("ark.fast"), "numpy.fast": overlay("numpy.fast"), "zoo.fast": overlay("zoo.fast")})
    scree.preload("fast")
    assert set(registry._loaded) == {"numpy", "numpy.fast"}


def test_preloading_a_name_of_two_overlays_makes_both(plugins, overlay):
    plugins({"numpy.fast": overlay("numpy.fast"), "scree_core": Toy, "scree_core.fast": overlay("scree_core.fast")})
    scree.preload("fast")
    assert set(registry._loaded) == {"numpy", "numpy.fast", "scree_core", "scree_core.fast"}


def test_preloading_what_is_missing_or_broken_raises(plugins):
    plugins({"scree_core": ImportError("no driver")})
    with pytest.raises(scree.BackendNotInstalledError, match=r'pip install "scree\[torch\]"'):
        scree.preload("torch")
    with pytest.raises(scree.BackendLoadError, match="no driver"):
        scree.preload()


def test_short_names_stand_for_full_ones(plugins, overlay):
    plugins({"numpy.fast": overlay("numpy.fast")})
    assert registry.full_name("fast") == "numpy.fast"
    assert registry.full_name("numpy.fast") == "numpy.fast"
    assert registry.full_name("numpy") == "numpy"


def test_of_two_full_names_the_first_is_meant_that_has_a_backend(plugins, overlay):
    plugins({"ark.fast": overlay("ark.fast"), "numpy.fast": overlay("numpy.fast")})
    assert registry.full_name("fast") == "numpy.fast"


def test_serving_a_type_for_a_while_ends(plugins):
    for _ in range(2):
        with registry.installed_for(LoopbackArray, Toy()), registry.installed_for(LoopbackArray, LoopbackBackend()):
            assert registry.candidates(LoopbackArray).base.name == "loopback"
        with pytest.raises(scree.BackendNotInstalledError):
            registry.candidates(LoopbackArray)
