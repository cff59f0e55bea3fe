"""Compile kernels for GPUs that aren't there: ``python ahead.py sm_90 --width 64``.

Run as a program of its own, since kernels are defined for the interpreter or for a compiler, once for a process.
Prints what each compiled kernel takes: registers, bytes of spilled ones, and shared memory.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from scree_triton.attention.configs import Setting, _table
from scree_triton.attention.kernels.backward import keys_kernel, queries_kernel
from scree_triton.attention.kernels.forward import forward_kernel

KERNELS = {"forward": forward_kernel, "queries": queries_kernel, "keys": keys_kernel}
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ITEMSIZE = {"fp16": 2, "bf16": 2, "fp32": 4}
PRODUCTS = {"sm_80": "mma.sync", "sm_90": "wgmma", "sm_100": "tcgen05.mma", "gfx942": "mfma"}
IN_DTYPE = {"Q", "K", "V", "OUT", "D_OUT", "D_Q", "D_K", "D_V", "SINKS"}
ABSENT = {"SINKS", "LSE", "D_LSE", "D_SINKS"}
INTEGERS = {"total", "heads", "left", "right"}


def compiled(kernel, arch, dtype, tile, *, width, causal, everything=False, precision=None):
    """Compile one kernel for one kind of GPU."""
    block_m, block_n, num_warps, num_stages = tile
    precision = precision or ("ieee" if dtype == "fp32" else "tf32")
    constants = {
        "GROUP": 1,
        "D": width,
        "DV": width,
        "BLOCK_D": width,
        "BLOCK_DV": width,
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
    }
    constants |= {"LEFT": everything, "RIGHT": causal or everything, "SIGN": 1, "SOFTCAP": everything}
    constants |= {"EXACT": dtype == "fp32", "UPCAST": False, "PRECISION": precision}
    names = list(kernel.arg_names)
    signature, attributes = {}, {}
    for i, name in enumerate(names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in ABSENT and not everything:
            signature[name], constants[name] = "constexpr", None
        elif name in IN_DTYPE:
            signature[name] = f"*{dtype}"
        elif name.isupper():
            signature[name] = {"TILES": "*i64"}.get(name, "*i32" if "OFFSETS" in name else "*fp32")
        elif name.startswith("stride") and name.endswith("d"):
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "i32" if name.startswith("stride") or name in INTEGERS else "fp32"
        aligned = (name.startswith("stride") and name not in ("stride_lt", "stride_lh")) or name in IN_DTYPE - {"SINKS"}
        if aligned and signature[name] != "constexpr":
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(
        kernel, signature=signature, constexprs={(names.index(n),): v for n, v in constants.items()}, attrs=attributes
    )
    return triton.compile(source, target=TARGETS[arch], options={"num_warps": num_warps, "num_stages": num_stages})


def usage(binary):
    """Return registers, bytes of spills, and shared memory of a program for NVIDIA's GPUs, by their own tool."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    return f"{found[1]} registers, {found[2]} bytes spilled, " if found else ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("arch", nargs="+", choices=TARGETS)
    parser.add_argument("--width", type=int, nargs="+", default=[64])
    parser.add_argument("--dtype", nargs="+", default=["bf16"], choices=ITEMSIZE)
    parser.add_argument("--kind", nargs="+", default=list(KERNELS), choices=KERNELS)
    parser.add_argument("--tile", type=lambda s: tuple(map(int, s.split("x"))), help="as 64x64x4x3; default: all known")
    parser.add_argument("--everything", action="store_true", help="with window, cap, sinks and lse")
    given = parser.parse_args()
    for arch in given.arch:
        for width in given.width:
            for dtype in given.dtype:
                for kind in given.kind:
                    setting = Setting(kind, width, ITEMSIZE[dtype], True)
                    for tile in [given.tile] if given.tile else [tile for _, tile in _table(setting, arch)]:
                        start = time.perf_counter()
                        binary = compiled(
                            KERNELS[kind], arch, dtype, tile, width=width, causal=True, everything=given.everything
                        )
                        text = binary.asm.get("ptx") or binary.asm["amdgcn"]
                        used = usage(binary) if "cubin" in binary.asm else ""
                        seconds = time.perf_counter() - start
                        products = "ok" if dtype == "fp32" or PRODUCTS[arch] in text else "NO TENSOR CORES"
                        shared = f"{binary.metadata.shared / 1024:.0f} KiB shared"
                        print(arch, kind, dtype, width, tile, products, f"{used}{shared}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"
    sys.exit(main())
