"""How far a stream of rows is, and how fast: a bar on a terminal, a line each tenth elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self


class Rate:
    """Tells on stderr how many of the rows are done, from `begin` on.

    Args:
        program: the words before a line.
        total: rows.

    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout), Rate("measure", 1000) as rate:
    ...     rate.begin(0)
    ...     rate.more(150)
    measure: 15% (150 of 1,000 rows), ... rows/s
    """

    def __init__(self, program: str, total: int) -> None:
        self._program, self._total = program, total
        self._before = self._done = self._tenths = 0
        self._start = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, rows: int) -> None:
        """Start the clock; so many rows were done before, and do not count for the rate."""
        self._before = self._done = rows
        self._tenths = 10 * rows // max(1, self._total)
        self._start = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            options: dict[str, Any] = {"unit": " rows", "unit_scale": True, "dynamic_ncols": True}
            self._bar = tqdm(total=self._total, initial=rows, file=sys.stderr, **options)

    def more(self, rows: int) -> None:
        """So many more rows are done."""
        self._done += rows
        if self._bar is not None:
            self._bar.update(rows)
            return
        tenths = 10 * self._done // max(1, self._total)
        if tenths > self._tenths:
            self._tenths = tenths
            rate = (self._done - self._before) / max(1e-9, time.monotonic() - self._start)
            share = 100 * self._done // self._total
            self.tell(f"{share}% ({self._done:,} of {self._total:,} rows), {rate:,.0f} rows/s")

    def tell(self, line: str) -> None:
        """Print a line, beside the bar if there is one."""
        text = f"{self._program}: {line}"
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)
