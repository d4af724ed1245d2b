"""Low-rank adapters (LoRA) on full-precision or 4-bit weights.

LoRA is from Hu et al. (2021), https://arxiv.org/abs/2106.09685, and its use on 4-bit weights (QLoRA) from Dettmers et
al. (2023), https://arxiv.org/abs/2305.14314. Both use peft and change the module in place. An adapter on a layer that
is never called gets no gradient and raises no error, so call `dead_adapters` after the first backward pass: it should
be empty.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

ADAPTER = "default"


@dataclass(frozen=True)
class LoraReport:
    """Layers that got an adapter, and numbers of weights.

    Parameters
    ----------
    adapters : tuple of str
        Names of the layers with an adapter.
    trained, frozen : int
        Number of weights in the adapters, and in the rest of the module.
    """

    adapters: tuple[str, ...]
    trained: int
    frozen: int

    def __str__(self) -> str:
        share = self.trained / max(1, self.trained + self.frozen)
        return (
            f"{len(self.adapters)} adapters, {self.trained:,} of {self.trained + self.frozen:,} weights ({share:.2%})"
        )


def add_lora(
    module: nn.Module,
    targets: Sequence[str],
    r: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> LoraReport:
    """Add adapters to linear layers of a module, in place, and freeze all other weights.

    The output of the module stays the same until the adapters are trained. To train the head as well, call
    ``module.head.requires_grad_(True)`` afterwards.

    Parameters
    ----------
    module : torch.nn.Module
    targets : sequence of str
        Names of linear layers of the module, or the ends of their names ("qkv" selects every layer of that name).
    r : int
        Rank. The adapter of a layer with m inputs and n outputs has r * (m + n) weights.
    alpha : float
        The output of an adapter is scaled by alpha / r.
    dropout : float
        Dropout rate of the input of an adapter.
    seed : int
        Seed of the initial weights of the adapters.

    Returns
    -------
    report : LoraReport

    Raises
    ------
    ValueError
        If a target is not a linear layer of the module, or belongs to torch's own attention, which never calls it.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    _check_targets(module, targets)
    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets), bias="none")
    device = next(module.parameters()).device
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, module, adapter_name=ADAPTER)
    module.to(device)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    adapters = tuple(name for name, child in module.named_modules() if isinstance(child, LoraLayer))
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return LoraReport(adapters, trained, sum(_weights_of(p) for p in module.parameters() if not p.requires_grad))


def lora_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of the adapters by name."""
    return {name: parameter for name, parameter in module.named_parameters() if ".lora_" in name}


def dead_adapters(module: nn.Module) -> list[str]:
    """Return the names of the adapter matrices that the last backward pass did not reach.

    Call it after ``backward()`` and before the optimiser zeroes the gradients. The second matrix of an adapter, B,
    starts at zero, and while it is zero the gradient of the first, A, is exactly zero. So A counts as dead only if it
    has no gradient at all, or if its gradient is zero and B is not.

    Parameters
    ----------
    module : torch.nn.Module
        A module after `add_lora` and a backward pass.

    Returns
    -------
    names : list of str
        Names of parameters; empty if every adapter takes part.

    Raises
    ------
    ValueError
        If the module has no adapters.
    """
    found = lora_parameters(module)
    if not found:
        raise ValueError("The module has no adapters. Call add_lora() first.")
    dead = []
    for name, parameter in found.items():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        waits = ".lora_A." in name and parameter.grad is not None and not found[name.replace("_A.", "_B.")].any()
        if not reached and not waits:
            dead.append(name)
    return dead


def merge_lora(module: nn.Module) -> list[str]:
    """Merge the adapters into the weights of their layers and remove them, in place.

    4-bit layers become layers in full precision and stay so: rounding them again would lose what was learned.

    Parameters
    ----------
    module : torch.nn.Module
        A module after `add_lora`.

    Returns
    -------
    names : list of str
        Names of the layers whose adapters were merged.
    """
    from peft.tuners.lora import LoraLayer

    merged = []
    for name, child in list(module.named_modules()):
        if isinstance(child, LoraLayer):
            layer = child.get_base_layer()
            plain = layer if type(layer) is nn.Linear else _in_full(layer)
            with torch.no_grad():
                plain.weight += child.get_delta_weight(ADAPTER).to(plain.weight.dtype)
            parent, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(parent), attribute, plain)
            merged.append(name)
    if hasattr(module, "peft_config"):
        del module.peft_config
    return merged


@dataclass(frozen=True)
class QuantiseReport:
    """Layers that were rounded to 4 bits, and numbers of weights.

    Parameters
    ----------
    layers : tuple of str
        Linear layers that were rounded.
    kept : tuple of str
        Linear layers that were left as they were.
    rounded, weights : int
        Number of weights in 4 bits, and in the whole module.
    """

    layers: tuple[str, ...]
    kept: tuple[str, ...]
    rounded: int
    weights: int

    def __str__(self) -> str:
        share = self.rounded / max(1, self.weights)
        return f"{len(self.layers)} layers in 4 bits, {share:.0%} of {self.weights:,} weights"


def quantise_4bit(
    module: nn.Module, skip: Sequence[str] = ("head",), compute: torch.dtype = torch.float32
) -> QuantiseReport:
    """Round the linear layers of a module to 4 bits (nf4, bitsandbytes), in place.

    Call it before `add_lora`. It also works on a CPU. The layers of torch's own attention are left as they are, because
    torch never calls them (see `open_attention`).

    Parameters
    ----------
    module : torch.nn.Module
    skip : sequence of str
        Layers whose names start with one of these are left as they are.
    compute : torch.dtype
        Precision of the matrix products; use half precision on a GPU that is fast at it.

    Returns
    -------
    report : QuantiseReport

    Raises
    ------
    ValueError
        If no layer is left to round.
    """
    from bitsandbytes.nn import Linear4bit

    _read_4bit_uncompiled()
    everything = sum(p.numel() for p in module.parameters())
    device = next(module.parameters()).device
    chosen, kept, rounded = [], [], 0
    for name, child in list(module.named_modules()):
        if not isinstance(child, nn.Linear):
            continue
        # A subclass or a parametrised layer (weight norm) computes its weights on each call, so there is no
        # stored weight to round.
        if type(child) is not nn.Linear or name.startswith(tuple(skip)):
            kept.append(name)
            continue
        small = Linear4bit(
            child.in_features, child.out_features, bias=child.bias is not None, compute_dtype=compute, quant_type="nf4"
        )
        small.load_state_dict(child.state_dict())
        # On some CPUs bitsandbytes repacks the weights for evaluation with coarser scales, and repacking them for
        # training does not restore them exactly.
        small.support_avx512bf16_for_cpu = False
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, small.requires_grad_(False).to(device))
        chosen.append(name)
        rounded += child.weight.numel()
    if not chosen:
        raise ValueError(
            f"No linear layer of the module can be rounded to 4 bits; its linear layers are "
            f"{kept or 'none'}. Nothing was changed. Pass a shorter skip, or open the attention first."
        )
    module.is_loaded_in_4bit = True  # peft reads this flag to choose the kind of adapter
    return QuantiseReport(tuple(chosen), tuple(kept), rounded, everything)


def _check_targets(module: nn.Module, targets: Sequence[str]) -> None:
    layers = {name: child for name, child in module.named_modules() if isinstance(child, nn.Linear)}
    for target in targets:
        hits = [name for name in layers if name == target or name.endswith(f".{target}")]
        if not hits:
            raise ValueError(
                f"The module has no linear layer {target!r}; it has {', '.join(list(layers)[:8])} ... "
                f"({len(layers)} in all). Nothing was changed."
            )
        for name in hits:
            if isinstance(module.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
                raise ValueError(
                    f"Layer {name} belongs to torch's MultiheadAttention, which never calls it: an adapter there would "
                    "be dead. Open the attention first (nbkit.neuro.nn.open_attention)."
                )


def _read_4bit_uncompiled() -> None:
    """Make bitsandbytes dequantise 4-bit weights on a CPU without torch.compile.

    Compilation happens anew for each shape and takes half a minute for a model that runs in seconds. A GPU has its own
    kernels. The result is the same; if a later version lacks these functions, nothing is changed.
    """
    from bitsandbytes.backends.default import ops

    for name in ("_dequantize_4bit_compute", "_dequantize_blockwise_compute"):
        compiled = getattr(ops, name, None)
        if hasattr(compiled, "__wrapped__"):
            setattr(ops, name, compiled.__wrapped__)


def _weights_of(parameter: nn.Parameter) -> int:
    """Return the number of weights of a parameter; a 4-bit parameter stores two of them in each byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()


def _in_full(layer: nn.Module) -> nn.Linear:
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device=weight.device)
    with torch.no_grad():
        plain.weight.copy_(weight)
        if layer.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain.requires_grad_(False)
