"""Every bridge, crossed in each direction, in the order of the table.

A new bridge gets a function for each direction in the file that it fits: ``test_table.py`` asks for it.
"""

from . import arrays, graphs, models, tables
from .crossing import Crossing

CROSSINGS = [
    found
    for module in (arrays, models, graphs, tables)
    for found in vars(module).values()
    if isinstance(found, Crossing)
]
NO_CROSSINGS = {
    "convert": "the page has a table of every pair of array libraries, which test_convert.py holds",
    "ServingBatch": "what from_vllm and from_sglang return",
}
"""The names of ``scree.bridges`` without a line, and why."""
