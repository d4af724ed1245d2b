"""Outputs and histories of other phases: a disk that cannot be read is said, and odd rows are left out."""

from __future__ import annotations

import errno

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import StoreError
from nbkit.runtime.items import fetching
from nbkit.runtime.items.fetching import read_rows


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_an_output_that_cannot_be_read_is_said_in_words(tmp_path, monkeypatch, number):
    with nbkit.open_session("toy", tmp_path / "store", folder=tmp_path / "work") as session:
        for item in session.work([{"key": "a"}]):
            with item:
                item.save(x=np.arange(3))

    def broken(path):
        raise OSError(number, "on purpose", str(path))

    monkeypatch.setattr(fetching, "sha256_of", broken)
    with nbkit.open_session("other", tmp_path / "store", folder=tmp_path / "work") as session:
        with pytest.raises(StoreError, match="toy/items/a.npz in .* could not be read .on purpose.*Nothing"):
            session.inputs("toy")


@pytest.mark.parametrize("step", ["1e3", "null", str(2**60 + 1), str(10**298), str(-(10**298)), "true", '"1"'])
def test_a_row_whose_step_no_training_takes_is_left_out(step):
    rows, faults = read_rows(b'{"step": 1, "loss": 2.0}\n{"step": %s, "loss": 1.0}\n' % step.encode())
    assert rows == [{"step": 1, "loss": 2.0}] and len(faults) == 1 and faults[0].startswith("line 2: ")
