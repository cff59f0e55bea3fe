"""What the tests of models share."""

import pytest


@pytest.fixture(scope="session")
def registered():
    import scree.hf

    scree.hf.register()


@pytest.fixture
def models_of_float64_compute_in_it(monkeypatch):
    """Some go by way of float32, in softmax, norms or routers: they'd be no reference."""
    import torch

    softmax, single, cast = torch.nn.functional.softmax, torch.Tensor.float, torch.Tensor.type

    def wide(x, *args, dtype=None, **kwargs):
        return softmax(x, *args, dtype=None if x.dtype == torch.float64 else dtype, **kwargs)

    def typed(x, *args, **kwargs):
        return x if x.dtype == torch.float64 and args == (torch.float32,) else cast(x, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x))
    monkeypatch.setattr(torch.Tensor, "type", typed)
    monkeypatch.setattr(torch.nn.functional, "softmax", wide)
