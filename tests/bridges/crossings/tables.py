"""Tables, other ragged arrays, and files."""

import tempfile
from pathlib import Path

import scree

from .crossing import Sides, crossing

b = scree.bridges


@crossing("Arrow", "there", "to_arrow", "pyarrow", "pyarrow")
def to_arrow(x, offsets):
    lists = b.to_arrow(scree.Array(x, offsets))
    return Sides((x, lists.values.values.to_numpy()), (offsets, lists.offsets.to_numpy()))


@crossing("Arrow", "back", "from_arrow", "pyarrow", "pyarrow")
def from_arrow(x, offsets):
    lists = b.to_arrow(scree.Array(x.copy(), offsets.copy()))
    found = b.from_arrow(lists)
    return Sides((lists.values.values.to_numpy(), found.values), (lists.offsets.to_numpy(), found.offsets))


@crossing("Parquet", "back", "from_parquet", "pyarrow", "pyarrow")
def from_parquet(x, offsets):
    import pyarrow
    import pyarrow.parquet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        pyarrow.parquet.write_table(pyarrow.table({"x": b.to_arrow(scree.Array(x, offsets))}), path)
        (found,) = b.from_parquet(path, "x")
    return Sides((None, found.values), (None, found.offsets))


@crossing("Awkward", "there", "to_awkward", "awkward", "awkward")
def to_awkward(x, offsets):
    layout = b.to_awkward(scree.Array(x, offsets)).layout
    return Sides((x, layout.content.content.data), (offsets, layout.offsets.data))


@crossing("Awkward", "back", "from_awkward", "awkward", "awkward")
def from_awkward(x, offsets):
    import awkward as ak

    kind = ak.index.Index32 if offsets.dtype == "int32" else ak.index.Index64
    content = ak.contents.RegularArray(ak.contents.NumpyArray(x.reshape(-1)), 2)
    found = b.from_awkward(ak.Array(ak.contents.ListOffsetArray(kind(offsets), content)))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("TensorFlow", "there", "to_tf_ragged", "tensorflow-cpu", "tensorflow")
def to_tf_ragged(x, offsets):
    import numpy as np

    ragged = b.to_tf_ragged(scree.Array(x, offsets))
    return Sides((x, np.asarray(ragged.values)), (offsets, np.asarray(ragged.row_splits)))


@crossing("TensorFlow", "back", "from_tf_ragged", "tensorflow-cpu", "tensorflow")
def from_tf_ragged(x, offsets):
    import numpy as np
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_splits(tf.constant(x), tf.constant(offsets))
    found = b.from_tf_ragged(ragged)
    # Tensor.numpy() would copy.
    return Sides((np.asarray(ragged.values), found.values), (np.asarray(ragged.row_splits), found.offsets))


@crossing("safetensors", "there", "save", "safetensors", "safetensors")
def save_safetensors(x, offsets):
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.safetensors")
        b.save(path, scree.Array(x, offsets))
        found = load_file(path)
    return Sides((x, found["values"]), (offsets, found["offsets"]))


@crossing("safetensors", "back", "load", "safetensors", "safetensors")
def load_safetensors(x, offsets):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.safetensors")
        b.save(path, scree.Array(x, offsets))
        found = b.load(path)
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("`.npz`", "there", "save", "numpy")
def save_npz(x, offsets):
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npz")
        b.save(path, scree.Array(x, offsets))
        with np.load(path) as file:
            found = dict(file)
    return Sides((x, found["values"]), (offsets, found["offsets"]))


@crossing("`.npz`", "back", "load", "numpy")
def load_npz(x, offsets):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npz")
        b.save(path, scree.Array(x, offsets))
        found = b.load(path)
    return Sides((x, found.values), (offsets, found.offsets))
