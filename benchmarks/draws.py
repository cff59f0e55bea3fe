"""Where batches of unequal rows come from: log-normal lengths, and those of texts that every Python has.

A batch is a draw: a seed draws its lengths, and another seed others. ``sigma`` is the standard deviation of the
logarithm of a length, ``mean`` the arithmetic mean of all lengths, not their median; no length is cut. A text's length
is the number of its words and punctuation marks, about as a tokenizer counts.
"""

from __future__ import annotations

import ast
import importlib
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from workloads import log_normal

TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class LogNormal:
    """Batches of log-normal lengths."""

    rows: int
    mean: float
    sigma: float

    def __str__(self) -> str:
        return f"{self.rows} rows, log-normal of mean {self.mean:,} and sigma {self.sigma}"

    def draw(self, seed: int) -> tuple[int, ...]:
        """Return the lengths of a batch."""
        return log_normal(self.rows, self.mean, self.sigma, seed)


@dataclass(frozen=True)
class Real:
    """Batches of texts out of Python's own: each at most once in a batch."""

    rows: int
    texts: str

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.texts}"

    def draw(self, seed: int) -> tuple[int, ...]:
        """Return the lengths of a batch."""
        drawn = np.random.default_rng(seed).choice(lengths_of(self.texts), self.rows, replace=False)
        return tuple(drawn.tolist())


TRAINING, INFERENCE = LogNormal(64, 256, 0.6), LogNormal(32, 1024, 1.2)
"""What a batch of training, and one of inference, is like."""
FUNCTIONS, DOCSTRINGS = "functions of Python's library", "docstrings of Python's library"
TOPICS, PARAGRAPHS = "topics of Python's help", "paragraphs of Python's help"


@lru_cache
def lengths_of(texts: str) -> np.ndarray:
    """Return the lengths of all texts of a kind that this Python has, shorter than a token none.

    Notes
    -----
    Python's library is the modules right in its folder, which takes two seconds to parse.
    """
    if texts in (FUNCTIONS, DOCSTRINGS):
        found = [text for kind, text in _sources() if kind == texts]
    else:
        topics = importlib.import_module("pydoc_data.topics").topics.values()
        found = list(topics) if texts == TOPICS else [part for topic in topics for part in re.split(r"\n\s*\n", topic)]
    lengths = np.array([len(TOKEN.findall(text)) for text in found])
    return lengths[lengths > 0]


@lru_cache
def _sources() -> list[tuple[str, str]]:
    return [
        found
        for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        for found in _texts_of(path.read_text(encoding="utf-8"))
    ]


def _texts_of(source: str) -> Iterator[tuple[str, str]]:
    """Go through the functions and docstrings of a module."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield FUNCTIONS, "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            yield DOCSTRINGS, ast.get_docstring(node) or ""
