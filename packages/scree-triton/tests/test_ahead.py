"""Every kernel compiles for GPUs that aren't there, into programs that they can run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
triton = pytest.importorskip("triton")

from scree_triton.attention.hopper import rule  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton's compilers come for Linux alone")

PROGRAM = Path(__file__).with_name("ahead.py")
CASES = {
    "attention": [*(f"attention bf16 {width}" for width in (32, 64, 128, 256)), "attention bf16 128 everything"],
    "others": [
        *(f"norms bf16 {features}" for features in (64, 4096, 16384, 16392)),
        "norms fp32 3000",
        *(f"softmax bf16 {sizes}" for sizes in ("4x20x1", "4096x20x1", "4x10000x1", "4x200x64")),
        "softmax fp32 4x200x3",
        "rope bf16 128of128 halves",
        "rope fp32 32of80 neighbours",
        "padding bf16 4096",
        "padding bf16 3",
        *(f"losses bf16 {vocab}" for vocab in (2, 50_257, 128_256)),
        "losses fp64 32000",
    ],
}
MORE = {
    ("sm_90", "attention"): ["attention bf16 16", "attention fp16 64"],
    ("gfx942", "attention"): ["attention bf16 16", "attention fp16 64", "attention fp32 64"],
}
"""Cases for one kind of GPU: a test takes minutes for what differs little between them."""
KERNELS = {
    "attention": {
        "attention.kernels.tiles.tiles_kernel",
        "attention.kernels.forward.forward_kernel",
        "attention.kernels.queries.queries_kernel",
        "attention.kernels.keys.keys_kernel",
        "attention.kernels.both.both_kernel",
    },
    "long": {
        "attention.kernels.tiles.tiles_kernel",
        "attention.kernels.forward.forward_kernel",
        "attention.kernels.hopper.forward.hopper_kernel",
        "attention.kernels.hopper.means.means_kernel",
        "attention.kernels.hopper.backward.hopper_backward_kernel",
        "attention.kernels.hopper.narrow.narrow_kernel",
    },
    "others": {
        "norms.forward._forward_kernel",
        "norms.backward._backward_kernel",
        "norms.sums._sum_kernel",
        "norms.wide.wide_forward_kernel",
        "norms.wide._rows_kernel",
        "norms.wide._columns_kernel",
        "softmax._forward_kernel",
        "softmax._backward_kernel",
        "rope._rotate_kernel",
        "padding._spread_kernel",
        "padding._collect_kernel",
        "cross_entropy._forward_kernel",
        "cross_entropy._backward_kernel",
    },
}
MULTIPLY = {
    *("forward_kernel", "queries_kernel", "keys_kernel", "both_kernel"),
    *("hopper_kernel", "hopper_backward_kernel"),
}
"""Kernels that multiply tiles."""
NEWEST = {
    "sm_80": "mma.sync",
    "sm_86": "mma.sync",
    "sm_89": "mma.sync",
    "sm_90": "wgmma",
    "sm_100": "tcgen05.mma",
    "sm_120": "mma.sync",
    "gfx942": "mfma",
}
"""What multiplies tiles."""
FEWER = {
    "sm_86": ["attention bf16 256"],
    "sm_89": ["attention bf16 128", "attention bf16 256", "attention fp32 128"],
    "sm_120": ["attention bf16 128", "attention bf16 256"],
}
"""The cases of those who differ from sm_80 in how much memory a program may share: what takes most of it."""
TENSOR_MEMORY = 512
"""Columns that a program has on sm_100."""
MOST_SPILLED = 128
"""Bytes of a thread in half precision on sm_90, whose tiles were measured."""
LITTLE_SPILLED = 64
"""The same of the forward kernel for Hopper, outside of its loops."""
SPILLED_BACKWARD = 256
"""The same of the backward one, which at heads of 128 has all registers full; in its loops a few of these are read."""
PROGRAMS = {" 16": 6, " 32": 5, " 64": 4}
"""How many programs of forward a multiprocessor of sm_90 has room for, by the end of the case's name."""
REGISTERS, SHARED = 64 * 1024, 228 * 1024
"""What a multiprocessor of sm_90 has; a program takes 1 KiB more of memory than it shares."""
WIDEST_SPILLED = 384
"""The same where the gradient of the widest rows adds up those of weight and bias in registers."""


@pytest.mark.parametrize(
    ("gpu", "part"), [(gpu, part) for gpu in NEWEST for part in CASES if part == "attention" or gpu not in FEWER]
)
def test_kernels_compile_into_what_the_smallest_gpu_of_a_kind_can_run(gpu, part, tmp_path):
    kernels = compiled(gpu, FEWER.get(gpu, [*CASES[part], *MORE.get((gpu, part), [])]), tmp_path)
    narrow = {"attention.kernels.both.both_kernel"}
    assert {kernel["kernel"] for kernel in kernels} == KERNELS[part] - (narrow if gpu in FEWER else set())
    print(f"{gpu}: {len(kernels)} kernels in {sum(kernel['seconds'] for kernel in kernels):.0f} s")


@pytest.mark.skipif(
    not triton.__version__.startswith(rule.VERSIONS),
    reason=f"the kernel for Hopper isn't offered on Triton {triton.__version__}",
)
def test_the_kernels_for_hopper_copy_by_its_engine_and_keep_their_loops_in_registers(tmp_path):
    kernels = compiled("sm_90", ["long bf16 causal", "long fp16 everything"], tmp_path)
    assert {kernel["kernel"] for kernel in kernels} == KERNELS["long"]
    for kernel in kernels:
        if kernel["kernel"].endswith(("hopper_kernel", "hopper_backward_kernel")):
            assert kernel["copies"] > 0, kernel
            backward = kernel["kernel"].endswith("hopper_backward_kernel")
            assert kernel["spilled"] <= (SPILLED_BACKWARD if backward else LITTLE_SPILLED), kernel


def compiled(gpu: str, cases: list[str], cache: Path) -> list[dict[str, Any]]:
    """Compile cases by ``ahead.py`` and return its reports; fail where one tells of a fault."""
    # The path is the cache's: what another run compiled proves nothing.
    settings = {"TRITON_INTERPRET": "0", "TRITON_DEFAULT_FP_FUSION": "1", "TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, str(PROGRAM), gpu, *cases, "--json"]
    child = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    kernels = [json.loads(line) for line in child.stdout.splitlines()]
    faults = [
        f"{kernel['case']}: {kernel['kernel']}: {fault}" for kernel in kernels for fault in faults_of(gpu, kernel)
    ]
    assert not faults, "\n".join(faults)
    assert child.returncode == 0, child.stderr
    return kernels


def faults_of(gpu: str, kernel: dict[str, Any]) -> list[str]:
    """Return what is wrong with a compiled kernel, as ``ahead.py`` reports it."""
    if "error" in kernel:
        return [kernel["error"]]
    faults = []
    if kernel["shared"] > kernel["most_shared"]:
        faults.append(f"shares {kernel['shared']} bytes, of which there are {kernel['most_shared']}")
    if kernel["tensor_memory"] > TENSOR_MEMORY:
        faults.append(f"takes {kernel['tensor_memory']} columns of tensor memory, of which there are {TENSOR_MEMORY}")
    products = products_of(gpu, kernel)
    if set(kernel["products"]) != products:
        faults.append(f"multiplies by {kernel['products'] or 'nothing'}, not by {products or 'nothing'}")
    is_widest = kernel["kernel"] == "norms.backward._backward_kernel" and kernel["tile"]["BLOCK"] == 16384
    most = WIDEST_SPILLED if is_widest else MOST_SPILLED
    if kernel["kernel"].endswith("hopper_backward_kernel"):
        most = SPILLED_BACKWARD
    if gpu == "sm_90" and " fp32 " not in kernel["case"] and kernel["spilled"] > most:
        faults.append(f"spills {kernel['spilled']} bytes of a thread, more than {most}")
    least = PROGRAMS.get(kernel["case"][-3:], 0) if gpu == "sm_90" and " fp32 " not in kernel["case"] else 0
    if kernel["kernel"] == "attention.kernels.forward.forward_kernel" and (room := room_for(kernel)) < least:
        faults.append(f"leaves room for {room} programs, fewer than {least}")
    return faults


def room_for(kernel: dict[str, Any]) -> int:
    """Return how many programs a multiprocessor of sm_90 has room for; registers are given to a thread by eights."""
    threads, registers = 32 * kernel["tile"]["num_warps"], -(-kernel["registers"] // 8) * 8
    return min(REGISTERS // (threads * registers), SHARED // (kernel["shared"] + 1024))


def products_of(gpu: str, kernel: dict[str, Any]) -> set[str]:
    """Return by which instructions a kernel is to multiply tiles."""
    name = kernel["kernel"].rpartition(".")[2]
    if name not in MULTIPLY:
        return set()
    if " fp32 " in kernel["case"] and gpu != "gfx942":  # exact products: NVIDIA's tensor cores round to tf32
        return set()
    rows = {"keys_kernel": ["BLOCK_N"], "both_kernel": ["QUERIES_M", "KEYS_N"]}.get(name, ["BLOCK_M"])
    # Four warps together multiply 64 rows or more.
    small = [gpu in ("sm_90", "sm_100") and kernel["tile"][side] < 64 for side in rows]
    return {"mma.sync" if is_small else NEWEST[gpu] for is_small in small}
