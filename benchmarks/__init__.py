"""Measurements of bisector itself, beside others' code: scripts for its authors, which the wheel does not hold.

From the top of the repository, with `pip install -e '.[dev,bench]'`: ``python -m benchmarks.meter --help``, and so
``amounts``, ``guide``, ``detector`` and ``decisions``. What a user may want to know of his own machine is in
``bisector bench``.
"""
