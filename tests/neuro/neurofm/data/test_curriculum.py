"""The curriculum: easy first, all at the end, by the step alone."""

from __future__ import annotations

import torch

from nbkit.neuro.neurofm.data.curriculum import curriculum_weight, lowest_snr


def test_stages_follow_the_step():
    lowest = [lowest_snr(step, 90, 1 / 3) for step in range(90)]
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[:10] == [0.8] * 10 and lowest[20:30] == [0.3] * 10 and lowest[30:] == [0.0] * 60
    assert lowest_snr(0, 90, 0.0) == 0.0


def test_a_stage_has_the_best_recording_at_least():
    snr = torch.tensor([0.2, 0.45, 0.1])
    assert curriculum_weight(snr, lowest_snr(0, 10, 1.0, best=0.45)).tolist() == [0, 1, 0]
    assert curriculum_weight(snr, 0.0).tolist() == [1, 1, 1]
