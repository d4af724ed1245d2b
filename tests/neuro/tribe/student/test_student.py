"""The student's parts against what the seed says of them, and against each other."""

from __future__ import annotations

import math

import pytest
import torch

from nbkit.neuro.tribe.handover import count_parameters
from nbkit.neuro.tribe.student.fusion import Fusion, FusionBlock, GatedPooling, TimedAttention
from nbkit.neuro.tribe.student.projector import Motion
from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe, Trunk, drop_modalities


def features(batch=2, times=12, seed=0) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    sizes = {"text": 384, "audio": 384, "video": 640}
    return {name: torch.randn(batch, times, size, generator=draws) for name, size in sizes.items()}


def small() -> TinyTribe:
    torch.manual_seed(0)
    return TinyTribe(StudentSettings.smoke().of(n_vertices=40))


@pytest.mark.parametrize(("outputs", "millions"), [(400, 45.5), (1000, 45.8), (5124, 47.9), (20484, 55.8)])
def test_the_whole_student_has_as_many_weights_as_computed(outputs, millions):
    with torch.device("meta"):
        s = StudentSettings(n_vertices=outputs)
        trunk, rest = Trunk(s), 0
    d = s.dim
    rest = (3 * d + 3) + (16 + 1) * d + (2 * d + d * d + d) + 2 * d * s.n_subjects + d * outputs
    assert round((count_parameters(trunk) + rest) / 1e6, 1) == millions


def test_parts_have_as_many_weights_as_computed():
    with torch.device("meta"):
        trunk = Trunk(StudentSettings())
    assert round(count_parameters(trunk.projectors) / 1e6, 2) == 4.04
    assert round(count_parameters(trunk.fusion.blocks) / 1e6, 2) == 37.83
    assert count_parameters(trunk.motion) == 1536 and trunk.times.numel() == 3 * 2048 * 512
    assert trunk.modality.numel() == 3 * 512


def test_the_sum_used_above_is_the_students():
    s, d = StudentSettings.smoke(), StudentSettings.smoke().dim
    student = TinyTribe(s)
    rest = (3 * d + 3) + (8 + 1) * d + (2 * d + d * d + d) + 2 * d * s.n_subjects + d * s.n_vertices
    assert count_parameters(student) == count_parameters(student.trunk) + rest
    assert sum(p.numel() for p in TinyTribe(s.of(dim=512, heads=8, n_subjects=25)).film.parameters()) == 25_600


def test_presets_name_the_outputs():
    assert (StudentSettings().n_vertices, StudentSettings.free().n_vertices) == (5124, 1000)
    smoke = StudentSettings.smoke()
    assert (smoke.dim, smoke.experts, smoke.n_vertices) == (64, 4, 400)


def test_tokens_of_a_step_lie_together():
    fusion = Fusion(8, 2, 8, 2, 1, layers=1, local=0, drop_path=0.0)
    order = []
    fusion.blocks[0].forward = lambda x, *_: (order.append(x), fusion.blocks[0].moe(x))[1]
    tokens = torch.arange(4 * 3).float().reshape(1, 4, 3, 1).expand(1, 4, 3, 8)  # t1 a1 v1 t2 ...
    fusion(tokens.contiguous())
    assert order[0][0, :, 0].tolist() == list(range(12))


def test_decay_falls_to_a_third_in_six_steps_and_not_within_one():
    attention = TimedAttention(8, 2, decay=True)
    bias = attention.bias(30, torch.zeros(1), causal=False)
    assert attention.log_alpha.item() == pytest.approx(math.log(1 / 6))
    assert bias[0, 1] == bias[0, 2] == bias[4, 3] == 0  # the same step
    assert bias[0, 18].item() == pytest.approx(-1.0)  # token 18 is of step 6
    assert torch.equal(bias, bias.T)
    assert TimedAttention(8, 2, decay=False).bias(30, torch.zeros(1), causal=False) is None


def test_only_the_first_two_of_four_blocks_decay_and_all_drop_by_plan():
    blocks = Trunk(StudentSettings.smoke()).fusion.blocks
    assert [block.attention.log_alpha is not None for block in blocks] == [True, True, False, False]
    assert [round(block.drop_path, 4) for block in blocks] == [0.05, 0.10, 0.15, 0.20]


def test_alpha_is_learned():
    trunk = Trunk(StudentSettings.smoke())
    trunk(features())[0].square().mean().backward()
    assert trunk.fusion.blocks[0].attention.log_alpha.grad.abs() > 0


def test_a_block_that_is_left_out_still_counts_its_router():
    torch.manual_seed(0)
    block = FusionBlock(16, 2, 32, 4, 2, decay=True, drop_path=1.0)
    x = torch.randn(2, 9, 16)
    block.train()
    dropped, routing = block(x)
    block.eval()
    kept, same = block(x)
    assert torch.equal(dropped, x) and not torch.equal(kept, x)
    torch.testing.assert_close(routing.loss, same.loss)
    routing.loss.backward()
    assert block.moe.router.weight.grad.abs().sum() > 0


def test_fusion_adds_up_the_routers_of_all_blocks_whatever_is_left_out():
    torch.manual_seed(0)
    fusion = Fusion(16, 2, 32, 4, 2, layers=4, local=2, drop_path=0.0)
    tokens = torch.randn(2, 5, 3, 16)
    whole = fusion(tokens)[1]
    each, x = [], tokens.flatten(1, 2)
    for block in fusion.blocks:
        x, routing = block(x)
        each.append(routing.loss)
    torch.testing.assert_close(whole.loss, sum(each))
    assert whole.entropy.shape == (4,) and whole.share.shape == (4, 4)


@pytest.mark.parametrize("later", [7, 11])
def test_causal_fusion_knows_nothing_of_later_steps(later):
    trunk = Trunk(StudentSettings.smoke()).eval()
    one, other = features(), features()
    for value in other.values():
        value[:, later:] = torch.randn(2, 12 - later, value.shape[-1])
    before, after = (trunk(x, causal=True)[0] for x in (one, other))
    torch.testing.assert_close(before[:, :later], after[:, :later], rtol=0, atol=1e-5)
    assert (before[:, later:] - after[:, later:]).abs().max() > 0.1
    free, moved = (trunk(x)[0] for x in (one, other))
    assert (free[:, :later] - moved[:, :later]).abs().max() > 1e-3  # without the mask it does: the test can fail


def test_motion_is_a_filter_of_three_frames():
    motion, frames = Motion(4), torch.randn(1, 10, 4)
    changed = frames.clone()
    changed[:, 5] += 1
    moved = (motion(frames) - motion(changed)).abs().sum((0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [4, 5, 6]
    moved = (motion(frames, causal=True) - motion(changed, causal=True)).abs().sum((0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [5, 6]


def test_modalities_of_other_rates_are_brought_to_the_longest():
    trunk = Trunk(StudentSettings.smoke())
    given = features(times=12)
    given["text"] = given["text"][:, ::2]
    assert trunk.project(given).shape == (2, 12, 3, 64)
    steady = {name: value[:, :1].expand(-1, 6 if name == "text" else 12, -1) for name, value in given.items()}
    tokens = trunk.eval().project(steady)
    torch.testing.assert_close(tokens[:, :1, 0].expand(-1, 12, -1), tokens[:, :, 0], rtol=1e-4, atol=1e-5)


def test_an_absent_modality_tells_nothing_but_its_place():
    student = small().eval()
    one, other = features(), features(seed=1)
    other["text"], other["audio"] = one["text"], one["audio"]
    without = torch.tensor([[True, True, False]]).expand(2, 3)
    same, alike = (student(x, present=without).bold for x in (one, other))
    torch.testing.assert_close(same, alike)
    assert not torch.allclose(student(one).bold, student(other).bold)


def test_gates_sum_to_one_and_weigh_tokens():
    pooling, tokens = GatedPooling(6, networks=2), torch.randn(2, 5, 3, 6)
    pooled, gates = pooling(tokens)
    assert pooled.shape == (2, 5, 2, 6)
    torch.testing.assert_close(gates.sum(-1), torch.ones(2, 5, 2))
    raw = (tokens.mean(2) @ pooling.net.weight.T + pooling.net.bias).sigmoid().unflatten(-1, (2, 3))
    torch.testing.assert_close(gates, raw / raw.sum(-1, keepdim=True))
    torch.testing.assert_close(pooled[1, 2, 1], sum(gates[1, 2, 1, m] * tokens[1, 2, m] for m in range(3)))


def test_a_gate_for_each_network_opens_a_modality_for_its_outputs_alone():
    one, several = small().eval(), TinyTribe(small().settings.of(gate_networks=2)).eval()
    network = torch.arange(one.settings.n_vertices) % 3 == 0
    several.set_networks(network)
    same = one.state_dict()
    with torch.no_grad():
        for name, value in several.state_dict().items():
            if name.startswith("pooling"):
                value.copy_(torch.cat([same[name]] * 2))
            elif name != "network":
                value.copy_(same[name])
    x = features()
    torch.testing.assert_close(several(x).bold, one(x).bold)  # the same gates twice: the same student
    with torch.no_grad():
        several.pooling.net.bias[3:] = torch.tensor([9.0, -9.0, -9.0])
    changed = (several(x).bold - one(x).bold).detach().abs().amax((0, 1))
    assert changed[network].min() > 1e-5 and changed[~network].max() < 1e-6
    with pytest.raises(ValueError, match="set gate_networks to 5"):
        several.set_networks(torch.arange(one.settings.n_vertices) % 5)
    assert several(x).gates.shape == one(x).gates.shape


def test_the_mean_subject_and_known_ones():
    student = small().eval()
    with torch.no_grad():
        student.film.gamma.normal_(1.0, 0.3)
        student.film.beta.normal_(0.0, 0.3)
    x = features()
    mean, second = student(x), student(x, torch.tensor([-1, 1]))
    torch.testing.assert_close(mean.bold[0], second.bold[0])
    assert not torch.allclose(mean.bold[1], second.bold[1])
    assert second.bold.shape == (2, 12, 40) and second.gates.shape == (2, 12, 3)


def test_output_can_have_another_number_of_steps():
    student, x = small().eval(), features()
    halved = student(x, n_trs=6).bold
    torch.testing.assert_close(halved, student(x).bold.unflatten(1, (6, 2)).mean(2), rtol=1e-4, atol=1e-5)


def test_dropped_modalities_are_never_all():
    present = torch.tensor([[True, True, True], [True, True, False], [False, True, False]]).repeat(400, 1)
    for rate in (0.3, 1.0):
        kept = drop_modalities(present, rate)
        assert kept.any(1).all() and not (kept & ~present).any()
    kept = drop_modalities(present, 0.3)[0::3]
    assert 0.66 < kept.float().mean() < 0.74
    assert torch.equal(drop_modalities(present, 0.0), present)


def test_too_long_a_window_is_refused():
    with pytest.raises(ValueError, match="300 steps; this student has embeddings for 256"):
        small()(features(batch=1, times=300))
