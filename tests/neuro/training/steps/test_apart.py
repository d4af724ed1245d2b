"""Steps in parts: the gradients of the sum, one graph at a time, whatever the pieces, scaling and accumulation."""

from __future__ import annotations

from dataclasses import replace

import lightning
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from nbkit.neuro.labram.finetune import ComparedRegressor, FinetuneSettings, Regressor
from nbkit.neuro.training.steps.apart import in_pieces
from tests.neuro.labram.training import Windows, train

TINY = replace(FinetuneSettings.smoke(), patch=20, dim=16, heads=2, depth=1, steps=12, warmup_steps=2, batch_size=8)


def made(data, pieces: int = 1) -> ComparedRegressor:
    lightning.seed_everything(1, verbose=False)
    module = ComparedRegressor.for_data(TINY, data)
    module.pieces = pieces
    return module


class OneGraph(ComparedRegressor):
    """The sum of both losses in one graph, propagated back at once."""

    def training_step(self, batch, batch_idx):
        return self.loss(batch) + sum(rival.loss(batch) for rival in self.rivals.values())


def weights_after(module, data, steps: int = 6, **options) -> dict[str, torch.Tensor]:
    train(module, data, steps, **options)
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_the_rivals_backward_apart_gives_the_bits_of_one_graph():
    data = Windows()
    apart = weights_after(made(data), data)
    lightning.seed_everything(1, verbose=False)
    together = weights_after(OneGraph.for_data(TINY, data), data)
    assert all(torch.equal(apart[name], together[name]) for name in together)


@pytest.mark.parametrize("pieces", [2, 3, 8, 50])
def test_pieces_take_the_same_steps_but_for_the_order_of_sums(pieces: int):
    data = Windows()
    whole, cut = weights_after(made(data), data), weights_after(made(data, pieces), data)
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, atol=2e-5, rtol=1e-3, msg=name)
    assert any(not torch.equal(cut[name], value) for name, value in whole.items())


def test_accumulated_batches_and_a_scaler_count_every_part():
    data = Windows()
    plain = weights_after(made(data, 2), data, accumulate_grad_batches=2)
    lightning.seed_everything(1, verbose=False)
    one = OneGraph.for_data(TINY, data)
    for name, value in weights_after(one, data, accumulate_grad_batches=2).items():
        torch.testing.assert_close(plain[name], value, atol=2e-5, rtol=1e-3, msg=name)

    class Scaled(MixedPrecision):  # a scale of 1024 in full precision: what is not scaled would be 1024 times too small
        def autocast_context_manager(self):
            return torch.autocast("cpu", enabled=False)

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10_000)
    found = weights_after(made(data, 2), data, plugins=[Scaled("16-mixed", "cpu", scaler)], accumulate_grad_batches=2)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_only_one_graph_is_alive_at_a_time():
    data = Windows()
    module, alive, most = made(data, 2), set(), []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            alive.add(id(ctx))
            most.append(len(alive))
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            alive.discard(id(ctx))
            return gradient

    for part in (module, *module.rivals.values()):
        part.loss = lambda batch, real=part.loss: Watched.apply(real(batch))
    train(module, data, 3)
    assert len(most) == 3 * 4 and max(most) == 1, "two pieces of two models, each step"
    assert module._rest is None and module._losses == {}


def test_pieces_add_up_whatever_their_weights():
    generator = torch.Generator().manual_seed(0)
    batch = {"x": torch.rand(7, generator=generator), "w": torch.rand(7, generator=generator)}

    def mean(piece):
        return (piece["x"] * piece["w"]).sum() / piece["w"].sum()

    for pieces in (1, 2, 3, 7, 9):
        parts = list(in_pieces(batch, pieces, mean, lambda piece: piece["w"].sum()))
        assert len(parts) == min(pieces, 7)
        torch.testing.assert_close(sum(parts), mean(batch))


def test_what_is_logged_is_the_sum_of_the_pieces():
    data = Windows()
    first = {pieces: train(made(data, pieces), data, 1, log_every_n_steps=1).callback_metrics for pieces in (1, 4)}
    for name in ("train_loss", "train_loss_scratch"):
        assert float(first[1][name]) == pytest.approx(float(first[4][name]), rel=1e-5)
    lightning.seed_everything(1, verbose=False)
    alone = Regressor.for_data(TINY, data)
    assert "train_loss_scratch" not in train(alone, data, 1).callback_metrics


def test_what_is_of_the_whole_batch_is_not_cut():
    batch = {"rows": torch.arange(3), "x": torch.arange(6.0)}
    seen = []
    list(in_pieces(batch, 2, lambda piece: seen.append(piece) or piece["x"].mean(), lambda piece: len(piece["x"])))
    assert [piece["rows"].tolist() for piece in seen] == [[0, 1, 2]] * 2
    assert [piece["x"].tolist() for piece in seen] == [[0, 1, 2], [3, 4, 5]]
