"""Generator training: a planted rule is learned and obeyed, nothing else moves, and one checkpoint is all."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.tokens.generated_scores import spectrum_gap
from nbkit.neuro.bandvar.tokens.generator_training import GeneratorSettings, GeneratorTraining
from nbkit.neuro.bandvar.tokens.samples import RealWindows, draw_samples, judge_samples, measure_missing_power, verdicts
from nbkit.neuro.bandvar.tokens.token_data import TokenData, frequencies, tokens_of
from nbkit.neuro.bandvar.tokens.tokenizer_training import TokenizerSettings, TokenizerTraining

TINY = replace(GeneratorSettings.smoke(), depth=1, batch_size=16, max_steps=60, lr_at_256=0.1)


@pytest.fixture
def windows(write_recording):
    def of(run):
        labels = np.array(["T0", "T1", "T0", "T2"] * 6)
        levels = np.cumsum(np.random.default_rng(run).normal(size=(24, 3, 4, 40)) * 20, axis=1)
        return write_recording(run=str(run), levels=levels, label=labels, source=np.array("eegbci"))

    return BandData([of(run) for run in (3, 4, 5, 6)], batch_size=8, val_fraction=0.25)


@pytest.fixture
def data(windows):
    torch.manual_seed(0)
    coder = TokenizerTraining.for_data(replace(TokenizerSettings.smoke(), codes=16), windows).eval()
    return TokenData(windows, coder.tokenizer, 16), coder


def fit(module, data, steps, **options):
    lightning.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, logger=options.pop("logger", False),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        **options,
    ).fit(module, datamodule=data)  # fmt: skip
    return module


def planted(data):
    """Windows of rest have even codes, those of movement odd ones."""
    for part in (data.train, data.val):
        tokens, chosen = part.tensors
        tokens.copy_(tokens // 2 * 2 + (chosen[:, :1] == 1))  # classes are sorted: movement is 1
    return data


def test_presets_scale_with_depth():
    for depth in (8, 12, 16, 20, 24, 30, 36):
        preset = getattr(GeneratorSettings, f"depth{depth}")()
        assert preset.depth == depth and preset.drop_path == pytest.approx(0.1 * depth / 24)
    assert GeneratorSettings.free().depth == 8


def test_tokens_and_conditions_belong_together(data, windows):
    data, coder = data
    assert data.conditions.classes == ("movement", "rest") and len(data.train) == 72 and len(data.val) == 24
    tokens, chosen = data.train[5]
    assert torch.equal(tokens, coder.tokenizer.encode(windows.train_dataset[5][None])[0])
    assert data.conditions.classes[chosen[0] - 1] == "movement"  # T1
    assert torch.equal(tokens_of(coder.tokenizer, windows.val_dataset, at_once=7), data.val.tensors[0])


def test_what_the_tokenizer_was_trained_on_is_not_held_out(data, windows):
    coder = data[1]
    other = BandData(windows.source, batch_size=8, val_fraction=0.5)
    assert set(other.val_dataset.paths) & set(windows.train_dataset.paths)
    with pytest.raises(ValueError, match="tokenizer was trained on them"):
        GeneratorTraining.for_data(TINY, coder, TokenData(other, coder.tokenizer, 16))


def test_a_planted_class_is_learned_and_asked_for(data):
    lightning.seed_everything(0, verbose=False)
    data, coder = planted(data[0]), data[1]
    module = GeneratorTraining.for_data(TINY, coder, data)
    fit(module, data, TINY.max_steps)
    module.eval()
    scores = module.validation_scores(sum(module.validation_sums(*batch) for batch in data.val_dataloader()))
    assert scores["val_nll"] < scores["val_nll_frequency"] - 0.3
    for name, odd in (("movement", 1), ("rest", 0)):
        tokens, levels = module.generate(data.conditions.asked(name, 20), generator=torch.Generator().manual_seed(0))
        assert (tokens % 2 == odd).float().mean() > 0.9
        assert levels.shape == (20, 3, 4, 40)


def test_validation_is_the_likelihood_by_hand(data):
    data, coder = data
    module = GeneratorTraining.for_data(TINY, coder, data).eval()
    tokens, chosen = data.val.tensors
    with torch.no_grad():
        logits = module.model(module.quantizer.next_inputs(tokens), chosen)
    scores = module.validation_scores(module.validation_sums(tokens, chosen))
    assert scores["val_nll"] == pytest.approx(F.cross_entropy(logits.transpose(1, 2), tokens).item(), rel=1e-5)
    table = frequencies(data.train.tensors[0], module.quantizer.slices, 16)
    known = [-table[s, t].log() for row in tokens for s, t in zip(module.model.scale_of, row, strict=True)]
    assert scores["val_nll_frequency"] == pytest.approx(torch.stack(known).mean().item(), rel=1e-5)


def test_progressive_training_asks_nothing_of_scales_to_come(data):
    data, coder = data
    settings = replace(TINY, progressive_until=1.0, max_steps=6, condition_dropout=0.0)
    module = GeneratorTraining.for_data(settings, coder, data)
    asked = []
    plain = module.losses
    module.losses = lambda tokens, chosen, scales=None: asked.append(scales) or plain(tokens, chosen, scales)
    fit(module, data, 7, limit_val_batches=0)
    assert asked == [1, 1, 2, 2, 3, 3, 3]
    length = module.quantizer.lengths[0]
    module.zero_grad()
    plain(*next(iter(data.train_dataloader())), 1).mean().backward()
    grad = module.model.position.grad
    assert grad[:, :length].abs().sum() > 0 and grad[:, length:].abs().max() == 0


def test_the_tokenizer_stays_as_it_is(data):
    data, coder = data
    before = {name: value.clone() for name, value in coder.state_dict().items()}
    module = fit(GeneratorTraining.for_data(TINY, coder, data), data, 5)
    module.train()
    assert not module.coder.training and not coder.tokenizer.quantizer.training
    assert all(torch.equal(value, before[name]) for name, value in module.coder.state_dict().items())


def test_the_rate_goes_with_all_windows_of_a_step(data):
    data, coder = data
    settings = replace(TINY, warmup_steps=0, final_lr_ratio=1.0)
    module = fit(GeneratorTraining.for_data(settings, coder, data), data, 2, accumulate_grad_batches=2)
    assert module.optimizers().param_groups[0]["lr"] == pytest.approx(0.1 * 16 * 2 / 256)
    decays = [group["weight_decay"] for group in module.optimizers().param_groups]
    assert decays == [0.05, 0.0]


def test_one_checkpoint_generates_the_same_windows(data, tmp_path):
    data, coder = data
    module = fit(GeneratorTraining.for_data(TINY, coder, data), data, 3)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    again = GeneratorTraining.from_checkpoint(tmp_path / "a.ckpt")
    ours, theirs = (draw_samples(m, data, 4, guidance=2.0) for m in (module, again))
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    np.testing.assert_allclose(ours.signal, theirs.signal, rtol=1e-5)
    torch.save({"state_dict": {}}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="not band_generator; pass"):
        GeneratorTraining.from_checkpoint(tmp_path / "b.ckpt")


def test_samples_are_judged_against_both_sides(data):
    data, coder = data
    module = GeneratorTraining.for_data(TINY, coder, data)
    samples = draw_samples(module, data, 5)
    assert samples.asked.tolist() == ["movement"] * 5 + ["rest"] * 5 and module.training
    train, held_out = RealWindows.of(data), RealWindows.of(data, held_out=True, limit=10)
    assert train.signal.shape == (72, 4, 40) and len(held_out.classes) == 10
    assert train.classes[:2].tolist() == ["rest", "movement"]
    scores = judge_samples(samples, train, held_out, 100.0)
    assert 0 <= scores["class_accuracy_generated"] <= 1 and scores["spectrum_gap_max"] > 0
    assert {len(words) for words in verdicts(samples, train, 100.0).values()} == {5}


def test_power_missing_from_the_generators_own_windows_is_filled(data):
    data, coder = data
    module = GeneratorTraining.for_data(TINY, coder, data)
    real = RealWindows.of(data).signal
    held = {name: value.clone() for name, value in module.state_dict().items()}
    missing = measure_missing_power(module, data, 36)
    assert missing.gap_before > 6  # an untrained decoder, and nothing measured yet
    assert all(torch.equal(value, held[name]) for name, value in module.state_dict().items())
    samples = draw_samples(module, data, 60, seed=5, missing=missing)
    assert np.abs(spectrum_gap(samples.signal, real, 100.0, h_freq=30)[1]).max() < 1.5


def test_power_that_differs_between_classes_is_filled_by_class(data):
    data, coder = data
    windows = data.windows.train_dataset
    stack, moved = windows.stack(), data.train.tensors[1][:, 0].numpy() == 1
    stack[moved] *= 3
    windows.__class__ = type("Changed", (type(windows),), {"__getitem__": lambda self, i: torch.from_numpy(stack[i])})
    module = GeneratorTraining.for_data(TINY, coder, data)
    samples = draw_samples(module, data, 60, missing=measure_missing_power(module, data, 36))
    ratio = samples.of("movement").std() / samples.of("rest").std()
    assert ratio == pytest.approx(3, rel=0.1)


def test_tensorboard_gets_what_is_logged(data, tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data, coder = data
    logger = TensorBoardLogger(tmp_path, name="", version="")
    fit(GeneratorTraining.for_data(TINY, coder, data), data, 6, logger=logger, log_every_n_steps=2)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {"train_loss", "val_nll", "val_nll_frequency"} <= set(events.Tags()["scalars"])
