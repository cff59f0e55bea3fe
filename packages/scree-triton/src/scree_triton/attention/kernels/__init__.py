"""What Triton compiles; type checkers don't read it, since its numbers and arrays are none of Python's."""
