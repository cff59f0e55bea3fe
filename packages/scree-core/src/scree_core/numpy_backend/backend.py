"""NumPy's side of the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scree_core import tail
from scree_core.backend import Backend
from scree_core.layout import Layout, offsets_from_lengths
from scree_core.numpy_backend import attention, padding, rows
from scree_core.protocols import Namespace


class NumpyBackend(Backend[np.ndarray]):
    """Ops on ``numpy.ndarray``, on the CPU."""

    name = "numpy"

    # ------------------------------------------------------------------ the array type

    def array_types(self) -> tuple[type, ...]:
        return (np.ndarray,)

    def owns(self, x: object) -> bool:
        # Not masked arrays, whose mask would be lost; asked last, for it imports numpy.ma.
        return isinstance(x, np.ndarray) and (type(x) is np.ndarray or not isinstance(x, np.ma.MaskedArray))

    @property
    def xp(self) -> Namespace:
        return np

    def from_numpy(self, a: np.ndarray, *, like: np.ndarray | None = None) -> np.ndarray:
        return a

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return x

    def host_view(self, x: np.ndarray) -> np.ndarray:
        return x

    def dtype(self, name: str) -> np.dtype:
        if name == "bfloat16":
            import ml_dtypes  # not NumPy's own: whoever has such arrays has it

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(name)

    def astype(self, x: np.ndarray, dtype: Any) -> np.ndarray:
        return x.astype(self.dtype(dtype) if isinstance(dtype, str) else dtype, copy=False)

    def empty_like(self, x: np.ndarray, dtype: Any = None) -> np.ndarray:
        return np.empty_like(x, dtype=self.dtype(dtype) if isinstance(dtype, str) else dtype)

    def may_cache(self, x: np.ndarray) -> bool:
        return True

    def _derived(self, layout: Layout[np.ndarray], key: str, build: Callable[[], np.ndarray]) -> np.ndarray:
        def build_read_only() -> np.ndarray:
            derived = build()
            derived.flags.writeable = False  # it is shared by every array of the layout
            return derived

        return layout.derived(key, build_read_only)

    # ------------------------------------------------------------------ ops: where things sit

    def segment_ids(self, layout: Layout[np.ndarray], total: int) -> np.ndarray:
        def build() -> np.ndarray:
            ids = np.arange(layout.batch_size + 1, dtype=layout.offsets.dtype)
            return np.repeat(ids, np.append(layout.lengths, total - layout.offsets[-1]))

        return self._derived(layout, "segment_ids", build)

    def positions(self, layout: Layout[np.ndarray], total: int) -> np.ndarray:
        def build() -> np.ndarray:
            end = layout.offsets[-1]
            found = np.arange(total, dtype=layout.offsets.dtype)
            found[:end] -= np.repeat(layout.offsets[:-1], layout.lengths)  # no gather by row, which is far slower
            found[end:] = 0
            return found

        return self._derived(layout, "positions", build)

    def pack(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays)

    def take_rows(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.take(x, index, axis=0)

    def to_padded(
        self, x: np.ndarray, layout: Layout[np.ndarray], *, width: int, side: str, fill_value: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        return padding.to_padded(x, layout.offsets, width, side, fill_value)

    def from_padded(
        self, padded: np.ndarray, mask: np.ndarray, *, capacity: int | None = None
    ) -> tuple[np.ndarray, Layout[np.ndarray]]:
        if capacity is not None:
            return tail.with_capacity(self, *self.from_padded(padded, mask), capacity)
        offsets = offsets_from_lengths(np.count_nonzero(mask, axis=1))
        return padding.from_padded(padded, mask), self.layout_from_host(offsets, like=mask)

    # ------------------------------------------------------------------ ops: computation

    def varlen_attention(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        q_layout: Layout[np.ndarray],
        k_layout: Layout[np.ndarray],
        *,
        causal: bool,
        scale: float,
        window: tuple[int, int],
        softcap: float | None,
        sinks: np.ndarray | None,
        return_lse: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        out, lse = attention.varlen_attention(
            self._widen(q),
            self._widen(k),
            self._widen(v),
            q_layout.offsets,
            k_layout.offsets,
            causal=causal,
            scale=scale,
            window=window,
            softcap=softcap,
            sinks=None if sinks is None else self._widen(sinks),
        )
        return self._narrow(out, q), lse if return_lse else None

    def varlen_softmax(self, x: np.ndarray, layout: Layout[np.ndarray]) -> np.ndarray:
        return self._narrow(rows.softmax(self._widen(x), layout), x)

    def varlen_sum(self, x: np.ndarray, layout: Layout[np.ndarray], *, empty: Any) -> np.ndarray:
        return self._narrow(rows.reduce_sum(self._widen(x), layout, empty), x)

    def varlen_mean(self, x: np.ndarray, layout: Layout[np.ndarray], *, empty: Any) -> np.ndarray:
        return self._narrow(rows.mean(self._widen(x), layout, empty), x)

    def varlen_max(self, x: np.ndarray, layout: Layout[np.ndarray], *, empty: Any) -> np.ndarray:
        return rows.reduce(np.maximum, x, layout, empty)

    def varlen_min(self, x: np.ndarray, layout: Layout[np.ndarray], *, empty: Any) -> np.ndarray:
        return rows.reduce(np.minimum, x, layout, empty)

    def varlen_logsumexp(self, x: np.ndarray, layout: Layout[np.ndarray], *, empty: Any) -> np.ndarray:
        return self._narrow(rows.logsumexp(self._widen(x), layout, empty), x)

    def varlen_cumsum(self, x: np.ndarray, layout: Layout[np.ndarray]) -> np.ndarray:
        return self._narrow(rows.cumsum(self._widen(x), layout), x)
