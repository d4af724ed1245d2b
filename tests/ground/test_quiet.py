"""Lightning's notes are hidden inside, all other warnings are not, and everything is restored."""

from __future__ import annotations

import logging
import warnings

import pytest

from nbkit.ground.quiet import quiet_braindecode, quiet_lightning


def test_known_noise_is_hidden_and_other_warnings_are_shown():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_lightning("TreeSpec"):
            for text in ("The 'val' loader does not have many workers", "a TreeSpec note", "the loss is NaN"):
                warnings.warn(text, stacklevel=1)
        warnings.warn("a TreeSpec note", stacklevel=1)
    assert [str(one.message) for one in caught] == ["the loss is NaN", "a TreeSpec note"]


def test_braindecodes_own_montage_is_hidden_and_a_users_is_shown():
    mne = pytest.importorskip("mne")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_braindecode():
            mne.channels.make_standard_montage("standard_1020")
            warnings.warn("another", FutureWarning, stacklevel=1)
        hidden = [str(one.message) for one in caught]
        mne.channels.make_standard_montage("standard_1020")
    assert hidden == ["another"] and "'standard_1020' is deprecated" in str(caught[-1].message)


def test_levels_are_restored_after_an_error_too():
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with pytest.raises(RuntimeError), quiet_lightning():
            assert logger.level == logging.WARNING
            raise RuntimeError("on purpose")
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)
