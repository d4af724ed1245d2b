"""The network: braindecode's numbers for the same weights, tokens where they belong, units."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.labram.backbone import NeuralTransformer, TemporalConv, cut_patches
from nbkit.neuro.labram.channels import EGI_129, TEN_TWENTY, channel_rows, find_table
from nbkit.neuro.labram.hub import braindecode_weights


@pytest.fixture(scope="module")
def labram():
    """Return braindecode's module and its channel order."""
    models = pytest.importorskip("braindecode.models.labram")
    return models.Labram, models.LABRAM_CHANNEL_ORDER


@pytest.mark.filterwarnings("ignore")
def test_features_are_those_of_braindecodes_labram(labram):
    Labram, order = labram
    torch.manual_seed(0)
    other = Labram(n_times=400, n_chans=5, n_outputs=0, sfreq=200, num_layers=3).eval()
    ours = NeuralTransformer(200, 3, table="ten_twenty").eval()
    for weight in ours.parameters():  # scales and biases too: at their start they could be swapped unseen
        torch.nn.init.normal_(weight, std=0.2)
    other.load_state_dict(braindecode_weights(ours.state_dict(), patches=2), strict=True)
    names = ["OZ", "FP1", "CZ", "T7", "P7-O1"]
    windows = 50 * torch.randn(3, 5, 400)
    with torch.no_grad():
        known = other(windows / 100, return_all_tokens=True, ch_names=names)
        found = ours(cut_patches(windows, 200), torch.tensor(channel_rows(names, "ten_twenty")))
    torch.testing.assert_close(found, known, atol=1e-5, rtol=1e-5)
    assert [name.upper() for name in order] == list(TEN_TWENTY)


def test_a_patch_of_100_gives_104_features_and_is_projected():
    conv = TemporalConv(100, 200)
    assert conv.proj.in_features == 104 and conv(torch.randn(2, 3, 2, 100)).shape == (2, 6, 200)
    assert isinstance(TemporalConv(200, 200).proj, torch.nn.Identity)


def test_patches_are_in_hundreds_of_microvolts_channel_by_channel():
    windows = torch.arange(2 * 3 * 8.0).view(2, 3, 8)
    patches = cut_patches(windows, 4)
    assert patches.shape == (2, 3, 2, 4)
    torch.testing.assert_close(patches[1, 2, 1], windows[1, 2, 4:] / 100)
    for bad in (windows[..., :7], windows[0], windows[..., :0]):
        with pytest.raises(ValueError, match="multiple of 4"):
            cut_patches(bad, 4)


def test_a_channel_brings_its_place_along():
    torch.manual_seed(0)
    net = NeuralTransformer(100, 2, 20, 2).eval()
    windows, rows = cut_patches(torch.randn(2, 4, 200), 100), torch.tensor([3, 9, 1, 128])
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        one, other = net(windows, rows), net(windows[:, order], rows[order])
    torch.testing.assert_close(one[:, 0], other[:, 0], atol=1e-5, rtol=0)  # the class token sees a set
    tokens = one[:, 1:].unflatten(1, (4, 2))[:, order].flatten(1, 2)
    torch.testing.assert_close(tokens, other[:, 1:], atol=1e-5, rtol=0)
    with torch.no_grad():
        assert not torch.allclose(net(windows, rows), net(windows, rows + 1), atol=1e-3)  # and knows whose it is
        swapped = net(windows.flip(2), rows)[:, 1:].unflatten(1, (4, 2)).flip(2).flatten(1, 2)
    assert not torch.allclose(swapped, one[:, 1:], atol=1e-3)  # and when


def test_adapters_that_hook_qkv_see_every_call():
    net = NeuralTransformer(100, 3, 20, 2)
    calls = []
    for block in net.blocks:
        block.attn.qkv.register_forward_hook(lambda *args: calls.append(1))
    net(cut_patches(torch.randn(1, 2, 200), 100), torch.tensor([1, 2])).sum().backward()
    assert len(calls) == 3 and all(b.attn.qkv.weight.grad.abs().sum() > 0 for b in net.blocks)


def test_too_long_a_window_is_refused():
    with pytest.raises(ValueError, match="17 patches; there are time embeddings for 16"):
        NeuralTransformer(100, 1, 20, 2)(cut_patches(torch.zeros(1, 1, 1700), 100), torch.tensor([1]))


def test_channels_are_found_in_their_table():
    assert find_table(["Fp1", "Cz", "T7-P7"]) == "ten_twenty" and find_table(EGI_129) == "egi_129"
    assert find_table(["FC5.", "Iz.."]) == "ten_twenty"
    assert channel_rows(["E1", "Cz", "E128"], "egi_129") == [1, 129, 128]
    assert len(TEN_TWENTY) == 128 and len(set(TEN_TWENTY)) == 128 and len(EGI_129) == 129
    with pytest.raises(ValueError, match="No table of channels has EOG"):
        find_table(["E1", "EOG"])
    with pytest.raises(ValueError, match="does not know Fp1"):
        channel_rows(["Fp1"], "egi_129")
    with pytest.raises(ValueError, match="a channel twice"):
        channel_rows(["E1", "e1"], "egi_129")
    with pytest.raises(ValueError, match="no table of channels 'x'"):
        channel_rows(["E1"], "x")


@pytest.mark.parametrize("patch", [100, 200])
def test_what_the_blocks_add_to_stays_in_float32_under_autocast(patch):
    net = NeuralTransformer(patch, 2, 200, 10)
    seen = []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda block, given: seen.append(given[0].dtype))
        block.attn.qkv.register_forward_hook(lambda block, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(cut_patches(torch.randn(1, 2, 2 * patch), patch), torch.tensor([1, 2]))
    assert seen == [torch.float32, torch.bfloat16] * 2
