import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from bisector.data.registry import load
from bisector.errors import ArgumentError


def write_cifar(folder, hundred=False):
    folder = folder / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 20, 3072), dtype=np.uint8)
    files = ["train", "test"] if hundred else [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    for name, rows in zip(files, pixels, strict=False):
        labels = [n % 4 for n in range(20)]
        held = {"fine_labels": labels, "coarse_labels": [0] * 20} if hundred else {"labels": labels}
        (folder / name).write_bytes(pickle.dumps({"data": rows} | held, protocol=2))
    names = {"fine_label_names" if hundred else "label_names": list("abcd")}
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(pickle.dumps(names, protocol=2))
    return folder, pixels


@pytest.mark.parametrize("hundred", [False, True])
def test_torchvision_s_files(tmp_path, monkeypatch, hundred):
    folder, pixels = write_cifar(tmp_path, hundred)
    monkeypatch.setenv("BISECTOR_DATA", str(tmp_path))
    name = "cifar100" if hundred else "cifar10"
    by_name, by_path, above = load(name), load(str(folder)), load(str(tmp_path))
    assert by_name.class_names == tuple("abcd")
    assert len(by_name.test) == 20
    assert len(by_name.train) + len(by_name.validation) == (20 if hundred else 100)
    first = by_name.test.examples.batch(torch.tensor([0]))
    assert torch.equal(first[0], torch.from_numpy(pixels[1 if hundred else 5, 0].reshape(3, 32, 32)) / 255)
    for other in (by_path, above):
        assert torch.equal(other.train.labels, by_name.train.labels)
        first, again = (data.train.examples.batch(torch.arange(9)) for data in (by_name, other))
        assert torch.equal(first, again)


class Attack:
    def __reduce__(self):
        import os

        return os.system, ("touch attacked",)


def test_nothing_in_a_pickle_is_executed(tmp_path, monkeypatch):
    folder, _ = write_cifar(tmp_path)
    monkeypatch.chdir(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Attack()}))
    with pytest.raises(ArgumentError, match=r"data_batch_3: cannot be read: it asks for posix\.system"):
        load(str(folder))
    assert not (tmp_path / "attacked").exists()
    (folder / "data_batch_3").write_bytes(b"\x80\x02}q")
    with pytest.raises(ArgumentError, match="data_batch_3: cannot be read"):
        load(str(folder))


@pytest.mark.slow
def test_what_cannot_be_downloaded_says_where_the_files_go(tmp_path):
    # A proxy that refuses every connection: the state of a machine without a network.
    program = (
        "from bisector.data.registry import load\n"
        "from bisector.errors import ArgumentError\n"
        "try: load('cifar100')\n"
        "except ArgumentError as error: print(error)"
    )
    proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **proxy}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    told = done.stdout.strip()
    assert "\n" not in told
    assert told.startswith("data: cifar100 is not on this machine and cannot be downloaded (")
    assert told.endswith("put its files into $BISECTOR_DATA/cifar100 (Parquet or cifar-100-python)")
    assert not list((tmp_path / ".cache" / "bisector").iterdir())


@pytest.mark.slow
def test_cifar10_in_parquet_is_the_field_s(real_data, monkeypatch):
    if not (real_data / "cifar10").is_dir():
        pytest.skip("no cifar10 in the folder of real data")
    monkeypatch.setenv("BISECTOR_DATA", str(real_data))
    data = load("cifar10", imbalance=100)
    assert data.shape == (3, 32, 32)
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    assert data.test_counts.tolist() == [1000] * 10
    assert data.validation.labels.bincount().tolist() == [500] * 10
    assert (data.train_counts.max(), data.train_counts.min()) == (4500, 45)
    assert data.left_out == ()
    for part in (data.train, data.validation, data.test):
        for row in range(0, len(part), 1000):  # the copies are named by their class
            assert f"({data.class_names[part.labels[row]]}/" in part.examples.name(row)
    means = data.test.examples.batch(torch.arange(10000)).mean((0, 2, 3))
    assert means.tolist() == pytest.approx([0.494, 0.485, 0.450], abs=0.005)  # as the field prints them
