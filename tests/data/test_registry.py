import subprocess
import sys

import pytest

from bisector.data.registry import DATA_SETS, load
from bisector.errors import ArgumentError


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_name_loads_under_its_name(name):
    data = load(name, imbalance=10, seed=1)
    assert data.name == name
    assert data.train_counts.max() >= 9 * data.train_counts.min()


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(ArgumentError, match="data: got 'didgits'; did you mean 'digits'"):
        load("didgits")


def test_a_missing_scikit_learn_names_the_extra():
    # A module set to None in sys.modules cannot be imported: the state of a bare installation.
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from bisector.data.registry import load\n"
        "from bisector.errors import MissingExtraError\n"
        "try: load('digits')\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (
        done.stdout.strip() == "scikit-learn is not installed; it comes with: pip install 'bisector[train]'"
    )
