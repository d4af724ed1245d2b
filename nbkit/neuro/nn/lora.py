"""Low-rank adapters: a few trained weights beside many frozen ones, and a check that they take part.

Hu et al. (2021), https://arxiv.org/abs/2106.09685, and on 4-bit weights Dettmers et al. (2023),
https://arxiv.org/abs/2305.14314; both through peft, in the module itself. An adapter on a layer that is never called
gets no gradient and says nothing, so `dead_adapters` is part of the recipe: after the first step it lists none.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

ADAPTER = "default"


@dataclass(frozen=True)
class LoraSettings:
    """Size of adapters.

    Parameters
    ----------
    r : int
        Rank: an adapter of a layer with m inputs and n outputs has r * (m + n) weights.
    alpha : float
        What an adapter adds is scaled by alpha / r.
    dropout : float
        Before an adapter.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0

    @classmethod
    def free(cls) -> LoraSettings:
        """Rank 16, scaled by 2."""
        return cls()

    @classmethod
    def smoke(cls) -> LoraSettings:
        """Rank 4, scaled by 2."""
        return cls(r=4, alpha=8.0)


@dataclass(frozen=True)
class LoraReport:
    """What adapters were put where.

    Parameters
    ----------
    adapters : tuple of str
        Layers that have one.
    trained, frozen : int
        Weights of the adapters, and all others.
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
    """Put adapters beside layers of a module, in place, and freeze all else.

    What the module computes is unchanged until the adapters are trained. A head that is to be trained as well is
    unfrozen by ``module.head.requires_grad_(True)`` afterwards.

    Parameters
    ----------
    module : torch.nn.Module
    targets : sequence of str
        Names of linear layers in it, whole or their ends ("qkv" is every layer of that name).
    r, alpha, dropout
        See `LoraSettings`.
    seed : int
        Of the adapters' first weights.

    Raises
    ------
    ValueError
        If a target is no layer of the module, or is within torch's own attention, which would not call it.
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
    """Return the adapters' weights by name."""
    return {name: parameter for name, parameter in module.named_parameters() if ".lora_" in name}


def dead_adapters(module: nn.Module) -> list[str]:
    """Name the adapter matrices that a backward pass did not reach.

    To be asked between ``backward()`` and the optimiser's zeroing. The second matrix of an adapter, B, starts at zero;
    while it is zero the first, A, has a gradient of exact zeros without being dead. So A counts as dead only where it
    has no gradient at all, or zeros beside a B that has left zero.

    Parameters
    ----------
    module : torch.nn.Module
        After `add_lora` and a backward pass.

    Raises
    ------
    ValueError
        If the module has no adapters.
    """
    found = lora_parameters(module)
    if not found:
        raise ValueError("The module has no adapters; add_lora() puts them in.")
    dead = []
    for name, parameter in found.items():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        waits = ".lora_A." in name and parameter.grad is not None and not found[name.replace("_A.", "_B.")].any()
        if not reached and not waits:
            dead.append(name)
    return dead


def merge_lora(module: nn.Module) -> list[str]:
    """Add the adapters to the weights beside them and take them out, in place; give the layers' names.

    4-bit weights are read into full precision for it, and stay so: rounding them again would undo what was learned.
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
    """What was rounded to 4 bits.

    Parameters
    ----------
    layers : tuple of str
    kept : tuple of str
        Linear layers left as they were.
    rounded, weights : int
        Weights in 4 bits, and all.
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
    """Round the linear layers of a module to 4 bits (nf4, bitsandbytes), in place, before `add_lora`.

    Runs on a CPU as well. Layers of torch's own attention are left: they are never called (see `open_attention`).

    Parameters
    ----------
    module : torch.nn.Module
    skip : sequence of str
        First parts of names that are left as they are.
    compute : torch.dtype
        Of the products; half precision on a card that is quick at it.

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
        # A subclass or a parametrised layer (weight norm) computes its weights: there is nothing to round.
        if type(child) is not nn.Linear or name.startswith(tuple(skip)):
            kept.append(name)
            continue
        small = Linear4bit(
            child.in_features, child.out_features, bias=child.bias is not None, compute_dtype=compute, quant_type="nf4"
        )
        small.load_state_dict(child.state_dict())
        # On some CPUs bitsandbytes repacks the weights in evaluation, with coarser scales and not quite back again.
        small.support_avx512bf16_for_cpu = False
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, small.requires_grad_(False).to(device))
        chosen.append(name)
        rounded += child.weight.numel()
    if not chosen:
        raise ValueError(f"No linear layer of the module can be rounded to 4 bits; it has {kept or 'none'}.")
    module.is_loaded_in_4bit = True  # peft looks here for which adapter to make
    return QuantiseReport(tuple(chosen), tuple(kept), rounded, everything)


def _check_targets(module: nn.Module, targets: Sequence[str]) -> None:
    layers = {name: child for name, child in module.named_modules() if isinstance(child, nn.Linear)}
    for target in targets:
        hits = [name for name in layers if name == target or name.endswith(f".{target}")]
        if not hits:
            raise ValueError(
                f"The module has no linear layer {target!r}; it has {', '.join(list(layers)[:8])} ... "
                f"({len(layers)} in all)."
            )
        for name in hits:
            if isinstance(module.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
                raise ValueError(
                    f"{name} belongs to torch's MultiheadAttention, which never calls it: an adapter there would be "
                    "dead. Open the attention first (nbkit.neuro.nn.open_attention)."
                )


def _read_4bit_uncompiled() -> None:
    """Let bitsandbytes read 4-bit weights on a CPU as it is written.

    It compiles that anew for every shape, half a minute for a model of seconds; a card has kernels of its own. What is
    read is the same, and where a later version has no such functions nothing is done.
    """
    from bitsandbytes.backends.default import ops

    for name in ("_dequantize_4bit_compute", "_dequantize_blockwise_compute"):
        compiled = getattr(ops, name, None)
        if hasattr(compiled, "__wrapped__"):
            setattr(ops, name, compiled.__wrapped__)


def _weights_of(parameter: nn.Parameter) -> int:
    """How many weights a parameter stands for; a 4-bit one holds two a byte."""
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
