"""Whether the files behind a data set are still the same."""

import hashlib
import os
from pathlib import Path


def fingerprint(data: str) -> str:
    """Return a digest of the names, sizes and times of all files under a path; "" for a data set by name.

    No file is read: a million of them take seconds.

    >>> fingerprint("digits")
    ''
    """
    path = Path(data)
    if not path.exists():
        return ""
    digest = hashlib.sha256(str(path.resolve()).encode())
    files = (
        [path] if path.is_file() else (Path(folder) / n for folder, _, names in os.walk(path) for n in names)
    )
    for file in sorted(files):
        state = file.stat()
        digest.update(f"\n{file.relative_to(path)} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
