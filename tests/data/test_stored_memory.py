"""A large row group is read in a small part of its size, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

ROWS, DIM = 60_000, 1024  # 234 MiB of vectors

READ = """
import resource, sys
from bisector.data.tables import open_embeddings
import numpy, torch  # numpy and torch take what they take
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
stored = open_embeddings(sys.argv[1])
assert sum(len(chunk) for chunk in stored.chunks()) == stored.rows == 60_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl", "npz", "pt", "safetensors"])
def test_a_table_is_read_in_a_part_of_its_size(tmp_path: Path, kind: str) -> None:
    if sys.platform != "linux":
        pytest.skip("peak memory is in other units there")
    vectors, labels = np.zeros((ROWS, DIM), np.float32), np.arange(ROWS) % 10
    vectors[:, 0] = labels
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez_compressed(path, x=vectors, y=labels)
    elif kind == "pt":
        torch.save({"x": torch.from_numpy(vectors), "y": torch.from_numpy(labels)}, path)
    elif kind == "safetensors":
        save_file({"x": vectors, "y": labels}, path)
    elif kind == "jsonl":
        with path.open("w") as file:
            rest = ",0.0" * (DIM - 1)
            file.writelines(f'{{"y": {label}, "x": [{label}.0{rest}]}}\n' for label in labels)
    elif kind == "csv":
        with path.open("w") as file:
            file.write(f"label,{','.join(f'x{k}' for k in range(DIM))}\n")
            file.writelines(f"{label},{label}.0{',0.0' * (DIM - 1)}\n" for label in labels)
    else:
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
        rows = pa.table({"embedding": column, "label": labels})
        if kind == "parquet":
            pq.write_table(rows, path, row_group_size=ROWS, compression="none", use_dictionary=False)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
                stream.write_table(rows, max_chunksize=5000)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150, f"{done.stdout} MiB"
