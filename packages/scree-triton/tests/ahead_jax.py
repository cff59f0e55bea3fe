"""Compile the kernel for Hopper as JAX calls it, for a GPU that isn't there: ``python ahead_jax.py``.

Run as a program of its own, for a compiler and not the interpreter. Prints an object for each form of a call.
"""

import json
import re
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
from triton.backends.nvidia.compiler import get_ptxas

from scree_triton.jax import gluon_call, hopper, library
from scree_triton.jax.given import Inputs, Options

FORMS = {
    "causal": (jnp.bfloat16, 32, 8, Options(True, 0.1, (-1, -1), None, False, (False, False))),
    "everything": (jnp.float16, 6, 2, Options(False, 0.1, (-1, -1), None, True, (True, True))),
}


def main() -> int:
    library.capability = lambda: 90
    library.multiprocessors = lambda: 132
    library.call = lambda *_, out, **rest: [jnp.zeros(x.shape, x.dtype) for x in out]  # the map of tiles
    for name, (dtype, heads, kv_heads, options) in FORMS.items():
        q, k = (jax.ShapeDtypeStruct((32768, n, 128), dtype) for n in (heads, kv_heads))
        offsets = jax.ShapeDtypeStruct((17,), jnp.int32)
        sinks = jax.ShapeDtypeStruct((heads,), dtype) if options.return_lse else None
        inputs = Inputs(q, k, k, sinks, offsets, offsets)
        assert hopper.takes(inputs, options), name
        jaxpr = jax.make_jaxpr(lambda inputs, options=options: hopper.forward(inputs, options))(inputs)
        (called,) = (eqn for eqn in jaxpr.eqns if eqn.primitive is gluon_call._call)
        given = called.params
        types = gluon_call.types_of([x.aval for x in called.invars], given["numbers"], given["out"][:-1])
        _, warps, shared, text = gluon_call.compiled_for(given["kernel"], types, 90)
        found = {"form": name, "warps": warps, "shared": shared, "given": len(types), "spilled": spilled(text)}
        for what, pattern in PATTERNS.items():
            found[what] = len(re.findall(pattern, text))
        print(json.dumps(found))
    return 0


PATTERNS = {
    "parameters": r"\.param \.[\w .]+ hopper_param_\d+",
    "products": r"\bwgmma\.mma_async",
    "copies": r"\bcp\.async\.bulk\.tensor\.5d",
    "descriptions": r"\btensormap\.replace\.tile\.global_address",
}


def spilled(text: str) -> int:
    """Return the bytes of a thread's stack."""
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(text)
        file.flush()
        command = [get_ptxas(90).path, "-v", "-arch=sm_90a", file.name, "-o", "/dev/null"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return int(re.search(r"(\d+) bytes stack frame", told)[1])


if __name__ == "__main__":
    sys.exit(main())
