"""Compile the package's kernels for a GPU that isn't there: ``python ahead.py sm_90 attention --width 64``.

The package's own functions are called, forward and backward, with a stand-in for the GPU, and ``launch.Variant``
compiles where it would launch. So this is what a user's call compiles, down to what Triton specialises on, and no
kernel's parameters are repeated here.

Run as a program of its own: kernels are defined for the interpreter or for a compiler, and choices are kept for a
device, once for a process. Prints what each kernel takes; with ``--json`` one object for each.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from scree_core.layout import Layout
from scree_torch.varlen_attention.options import Options
from scree_triton import launch
from scree_triton.attention import backward, configs, run, variants
from scree_triton.attention.entry import varlen_attention
from scree_triton.attention.hopper import backward as hopper_backward
from scree_triton.attention.hopper import forward as hopper_forward
from scree_triton.cross_entropy import varlen_cross_entropy
from scree_triton.norms import tiles as norm_tiles
from scree_triton.norms import varlen_layernorm, varlen_rmsnorm
from scree_triton.padding import from_padded, to_padded
from scree_triton.rope import varlen_rope
from scree_triton.softmax import varlen_softmax


class Gpu(NamedTuple):
    """A kind of GPU to compile for."""

    target: GPUTarget
    multiprocessors: int
    shared: int
    """Bytes of memory that a program may share on the smallest GPU that runs what is compiled for this kind."""


GPUS = {
    "sm_80": Gpu(GPUTarget("cuda", 80, 32), 108, 163 * 1024),
    "sm_86": Gpu(GPUTarget("cuda", 86, 32), 84, 99 * 1024),
    "sm_89": Gpu(GPUTarget("cuda", 89, 32), 128, 99 * 1024),
    "sm_90": Gpu(GPUTarget("cuda", 90, 32), 132, 227 * 1024),
    "sm_100": Gpu(GPUTarget("cuda", 100, 32), 148, 227 * 1024),
    "sm_120": Gpu(GPUTarget("cuda", 120, 32), 170, 99 * 1024),
    "gfx942": Gpu(GPUTarget("hip", "gfx942", 64), 304, 64 * 1024),
}
PRODUCTS = {
    "mma.sync": r"\bmma\.sync",
    "wgmma": r"\bwgmma\.mma_async",
    "tcgen05.mma": r"\btcgen05\.mma",
    "mfma": r"\bv_mfma_",
}
"""Instructions that multiply tiles, in the text that Triton's compilers write."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
WIDTHS = (16, 32, 64, 128, 256)


def compile_instead(gpu: Gpu, architecture: str, kernels: list[tuple[str, Any, dict[str, Any]]]) -> None:
    """Make launches of this process compile for a GPU, and append each kernel's name, binary and constants to a list.

    What can't be compiled has an exception for a binary.
    """
    if launch.INTERPRETED:
        raise SystemExit("TRITON_INTERPRET=1 leaves nothing to compile")
    seen = set()

    def compile_(variant: launch.Variant, programs: int, *arguments: Any) -> None:
        kernel, constants = variant._kernel, variant._constants
        name = f"{kernel.fn.__module__.removeprefix('scree_triton.')}.{kernel.fn.__name__}"
        start = time.perf_counter()
        try:
            binary = kernel.warmup(*arguments, grid=(programs,), **constants, **variant._options)
        except Exception as error:
            binary = error
        if id(binary) not in seen:  # Triton keeps what it has compiled
            seen.add(id(binary))
            kernels.append((name, binary, constants | variant._options | {"seconds": time.perf_counter() - start}))

    launch.Variant.__call__ = compile_
    configs.architecture_of = lambda device: architecture
    hopper_forward._multiprocessors = lambda device: gpu.multiprocessors
    norm_tiles._properties = lambda device: (gpu.multiprocessors, gpu.shared)
    device = {"get_current_device": lambda: 0, "get_current_stream": lambda device: 0}
    driver.set_active(types.SimpleNamespace(**device, get_current_target=lambda: gpu.target))


def rows_of(length: int) -> Layout[torch.Tensor]:
    """Return two rows of so many elements."""
    return Layout(torch.tensor([0, length, 2 * length]), total=2 * length, max_length=length)


def differentiate(out: torch.Tensor | tuple[torch.Tensor, ...], inputs: tuple[torch.Tensor, ...]) -> None:
    """Run backward."""
    outputs = (out,) if isinstance(out, torch.Tensor) else out
    torch.autograd.grad(outputs, inputs, [torch.ones_like(x) for x in outputs])


def classes(dtype: torch.dtype, width: int, masks: tuple[bool, ...]) -> list[tuple[bool, float]]:
    """Return the batches that have tiles of their own: whether causal, and the least mean length of their rows."""
    architecture = configs.architecture_of(torch.device("cpu"))
    found: dict[Any, tuple[bool, float]] = {}
    for causal in masks:
        settings = [configs.Setting(kind, width, dtype.itemsize, causal) for kind in configs.KINDS]
        for least in sorted({least for setting in settings for least, _ in configs._table(setting, architecture)}):
            tiles = tuple(configs.default(setting, least, architecture) for setting in settings)
            found.setdefault(tiles, (causal, least))
    return [*found.values()]


def attend(dtype: torch.dtype, width: int, *, everything: bool = False) -> None:
    """Run attention, causal and, where it has other tiles, full, for each length of rows that has tiles of its own.

    With everything: causal alone, with a window, a softcap, sinks, the lse, 4 heads to a key's, and head dimensions
    that differ and are no powers of 2.
    """
    head_dim, head_dim_v = (width - width // 4, width - width // 8) if everything else (width, width)
    heads = 8 if everything else 2
    for causal, least in classes(dtype, width, (True,) if everything else (True, False)):
        options = Options(causal, head_dim**-0.5, *((100, -1), 30.0) if everything else ((-1, -1), None))
        layout = rows_of(triton.next_power_of_2(max(1, least)))
        q = torch.empty((layout.total, heads, head_dim), dtype=dtype, requires_grad=True)
        k = torch.empty((layout.total, 2, head_dim), dtype=dtype, requires_grad=True)
        v = torch.empty((layout.total, 2, head_dim_v), dtype=dtype, requires_grad=True)
        sinks = torch.empty(heads, dtype=dtype, requires_grad=True) if everything else None
        inputs = (q, k, v, sinks) if everything else (q, k, v)
        for backward.FEW in (0, 10**6):  # one launch for each kernel of backward, and one for both
            run._plans.clear()
            out, lse = varlen_attention(q, k, v, layout, layout, sinks, options, return_lse=everything)
            differentiate((out, lse) if everything and not backward.FEW else out, inputs)


def attend_long(dtype: torch.dtype, *, causal: bool, everything: bool = False) -> None:
    """Run attention that Hopper has kernels of its own for; with everything: sinks, the lse, grouped heads."""
    layout, heads = rows_of(16384), 32 if everything else 8
    for head_dim in hopper_backward.HEAD_DIMS:
        q = torch.empty((layout.total, heads, head_dim), dtype=dtype, requires_grad=True)
        k, v = (torch.empty((layout.total, 8, head_dim), dtype=dtype, requires_grad=True) for _ in range(2))
        sinks = torch.empty(heads, dtype=dtype, requires_grad=True) if everything else None
        options = Options(causal, 0.1, (-1, -1), None)
        out, lse = varlen_attention(q, k, v, layout, layout, sinks, options, return_lse=everything)
        inputs = (q, k, v, sinks) if everything else (q, k, v)
        cotangents = [torch.empty_like(x) for x in ((out, lse) if everything else (out,))]
        torch.autograd.grad((out, lse) if everything else out, inputs, cotangents)


def normalise(dtype: torch.dtype, features: int) -> None:
    """Run layer normalisation with all of its inputs, and RMS normalisation."""
    x = torch.empty((4, features), dtype=dtype, requires_grad=True)
    weight, bias = (torch.empty(features, dtype=dtype, requires_grad=True) for _ in range(2))
    differentiate(varlen_layernorm(x, weight, bias, eps=1e-6), (x, weight, bias))
    differentiate(varlen_rmsnorm(x, weight, eps=1e-6), (x, weight))


def soften(dtype: torch.dtype, batch: int, length: int, features: int) -> None:
    """Run softmax over rows of so many elements."""
    layout = Layout(torch.arange(batch + 1) * length, total=batch * length, max_length=length)
    x = torch.empty((layout.total, features), dtype=dtype, requires_grad=True)
    differentiate(varlen_softmax(x, layout), (x,))


def rotate(dtype: torch.dtype, head_dim: int, rotated: int, *, interleaved: bool) -> None:
    """Run rotary embedding of the first features of a head."""
    layout = rows_of(16)
    x = torch.empty((layout.total, 2, head_dim), dtype=dtype, requires_grad=True)
    cos, sin = torch.empty((2, 64, rotated // 2))
    differentiate(varlen_rope(x, cos, sin, None, layout, interleaved=interleaved), (x,))


def pad(dtype: torch.dtype, features: int) -> None:
    """Spread rows on a rectangle and collect them, by their offsets and by a mask."""
    layout = rows_of(16)
    x = torch.empty((layout.total, features), dtype=dtype, requires_grad=True)
    for side in ("right", "left"):
        padded, _ = to_padded(x, layout, width=32, side=side, fill_value=0)
        differentiate(padded, (x,))
    leaf = padded.detach().requires_grad_()
    values, _ = from_padded(leaf, torch.ones(2, 32, dtype=torch.bool), capacity=None)
    differentiate(values, (leaf,))


def compare(dtype: torch.dtype, vocab: int) -> None:
    """Run cross-entropy."""
    logits = torch.empty((4, vocab), dtype=dtype, requires_grad=True)
    differentiate(varlen_cross_entropy(logits, torch.zeros(4, dtype=torch.int32)), (logits,))


def cases() -> dict[str, Callable[..., None]]:
    """Return what can be run, by name."""
    found: dict[str, Callable[..., None]] = {}
    found["losses fp64 32000"] = functools.partial(compare, torch.float64, 32_000)  # what others leave to PyTorch
    for name, dtype in DTYPES.items():
        for width in WIDTHS:
            found[f"attention {name} {width}"] = functools.partial(attend, dtype, width)
            found[f"attention {name} {width} everything"] = functools.partial(attend, dtype, width, everything=True)
        if dtype != torch.float32:
            found[f"long {name} causal"] = functools.partial(attend_long, dtype, causal=True)
            found[f"long {name} full"] = functools.partial(attend_long, dtype, causal=False)
            found[f"long {name} everything"] = functools.partial(attend_long, dtype, causal=True, everything=True)
        for features in (64, 3000, 4096, norm_tiles.WIDEST, norm_tiles.WIDEST + 8):
            found[f"norms {name} {features}"] = functools.partial(normalise, dtype, features)
        for sizes in ((4, 20, 1), (4096, 20, 1), (4, 10_000, 1), (4, 200, 3), (4, 200, 64)):
            found[f"softmax {name} {'x'.join(map(str, sizes))}"] = functools.partial(soften, dtype, *sizes)
        for vocab in (2, 1024, 50_257, 128_256):
            found[f"losses {name} {vocab}"] = functools.partial(compare, dtype, vocab)
        for features in (1, 3, 64, 4096):
            found[f"padding {name} {features}"] = functools.partial(pad, dtype, features)
        for head_dim, rotated in ((128, 128), (80, 32)):
            for pairs in ("halves", "neighbours"):
                case = functools.partial(rotate, dtype, head_dim, rotated, interleaved=pairs == "neighbours")
                found[f"rope {name} {rotated}of{head_dim} {pairs}"] = case
    return found


def report(case: str, gpu: Gpu, name: str, binary: Any, constants: dict[str, Any]) -> dict[str, Any]:
    """Return what a kernel takes.

    Returns
    -------
    dict
        Instructions that multiply tiles by kind, how many copy them by Hopper's copy engine (``copies``),
        ``registers`` of a thread, bytes of its stack, which is for what doesn't fit in them (``spilled``; registers of
        AMD's), and of a program ``shared`` bytes, how many it may have (``most_shared``), and columns of
        ``tensor_memory``; or an ``error``.
    """
    tile = {
        key: constants[key]
        for key in constants
        if key.startswith(("BLOCK", "QUERIES", "KEYS", "num_")) or key == "STAGES"
    }
    found = {"case": case, "kernel": name, "tile": tile, "seconds": round(constants["seconds"], 2)}
    if isinstance(binary, Exception):
        return found | {"error": f"{type(binary).__name__}: {binary}"}
    text = binary.asm.get("ptx") or binary.asm["amdgcn"]
    products = {kind: len(re.findall(pattern, text)) for kind, pattern in PRODUCTS.items()}
    registers, spilled = _registers(binary)
    return found | {
        "products": {kind: count for kind, count in products.items() if count},
        "copies": len(re.findall(r"\bcp\.async\.bulk\.tensor", text)),
        "registers": registers,
        "spilled": spilled,
        "shared": binary.metadata.shared,
        "most_shared": gpu.shared,
        "tensor_memory": getattr(binary.metadata, "tmem_size", None) or 0,
    }


def _registers(binary: Any) -> tuple[int, int]:
    if "amdgcn" in binary.asm:
        names = (r"\.vgpr_count:\s*(\d+)", r"\.vgpr_spill_count:\s*(\d+)")
        return tuple(int(re.search(name, binary.asm["amdgcn"])[1]) for name in names)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", text).groups()
    return int(registers), int(stack)


def line_of(found: dict[str, Any]) -> str:
    """Return a report to be read."""
    head = f"{found['case']}: {found['kernel']} {'x'.join(map(str, found['tile'].values()))}, {found['seconds']} s: "
    if "error" in found:
        return head + found["error"]
    products = ", ".join(f"{count} {kind}" for kind, count in found["products"].items()) or "no products"
    shared = f"{found['shared'] / 1024:.1f} KiB shared"
    return head + f"{products}, {found['registers']} registers, {found['spilled']} spilled, {shared}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gpu", choices=GPUS)
    parser.add_argument("case", nargs="*", default=["*"], help="names, which may have wildcards; default: every case")
    parser.add_argument("--tile", help="for attention: queries, keys, warps and stages as 64x64x4x3, not the tables'")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kernels: list[tuple[str, Any, dict[str, Any]]] = []
    gpu = GPUS[given.gpu]
    compile_instead(gpu, given.gpu, kernels)
    if given.tile:
        tile = configs.Tile(*map(int, given.tile.split("x")))
        variants.choose = lambda setting, mean, device: tile
    known, failed = cases(), False
    for pattern in given.case:
        names = fnmatch.filter(known, pattern)
        if not names:
            parser.error(f"no case is called {pattern!r}; there are: {', '.join(known)}")
        for name in names:
            known[name]()
            for kernel in kernels:
                found = report(name, gpu, *kernel)
                failed |= "error" in found
                print(json.dumps(found) if given.json else line_of(found), flush=True)
            kernels.clear()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
