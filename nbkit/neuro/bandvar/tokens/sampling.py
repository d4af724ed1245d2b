"""Token generation, scale after scale.

The same random numbers give the same tokens with and without the cache. A guidance of 1 means no guidance and needs no
second pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nbkit.neuro.bandvar.tokens.generator import NextScaleTransformer
from nbkit.neuro.bandvar.tokens.quantizer import BandQuantizer


def keep_likely(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """Set all logits except those of the most likely codes to minus infinity.

    Parameters
    ----------
    logits : Tensor of shape (..., codes)
    top_k : int
        Number of codes to keep; 0 keeps all.
    top_p : float
        Of these, keep the smallest set with at least this total probability; 0 or 1 keeps all.

    Returns
    -------
    kept : Tensor of shape (..., codes)
    """
    if top_k < 0 or not 0 <= top_p <= 1:
        raise ValueError(f"Got {top_k=} and {top_p=}; top_k must be 0 (all) or more, and top_p from 0 to 1 (all).")
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if 0 < top_p < 1:
        ordered, places = logits.sort(dim=-1, descending=True, stable=True)
        chances = ordered.softmax(dim=-1)
        beyond = chances.cumsum(dim=-1) - chances >= top_p  # the codes before this one already reach top_p
        logits = logits.masked_fill(beyond.gather(-1, places.argsort(dim=-1)), -torch.inf)
    return logits


def guided(with_class: Tensor, without: Tensor, guidance: float) -> Tensor:
    """Apply classifier-free guidance to logits (Ho and Salimans 2022, https://arxiv.org/abs/2207.12598).

    A ``guidance`` of 1 returns ``with_class``, 0 returns ``without``, and values above 1 increase the difference.
    """
    return without + guidance * (with_class - without)


@torch.no_grad()
def generate_tokens(
    model: NextScaleTransformer,
    quantizer: BandQuantizer,
    chosen: Tensor,
    *,
    guidance: float = 1.5,
    top_k: int = 0,
    top_p: float = 0.0,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    cached: bool = True,
) -> Tensor:
    """Generate the tokens of windows.

    Parameters
    ----------
    model : NextScaleTransformer
    quantizer : BandQuantizer
        Both are used in evaluation mode and then set back to their mode before the call.
    chosen : Tensor of shape (windows, 3)
        Numbers of class, subject and task; 0 means "unspecified".
    guidance : float
        Strength of classifier-free guidance at every scale. The pass without the class keeps subject and task.
    top_k : int
    top_p : float
        See `keep_likely`.
    temperature : float
        Divisor of the logits; 0 takes the most likely code.
    generator : torch.Generator, optional
        Random numbers, on the device of the model; by default torch's global generator.
    cached : bool
        If False, compute the whole masked pass for every scale, as in training; for comparison.

    Returns
    -------
    tokens : Tensor of shape (windows, tokens)
    """
    was_training = model.training, quantizer.training
    model.eval(), quantizer.eval()
    twice = guidance != 1.0
    asked = torch.cat([chosen, chosen * chosen.new_tensor([0, 1, 1])]) if twice else chosen
    caches = model.caches() if cached else None
    tokens = chosen.new_zeros(len(chosen), 0)
    summed = 0
    inputs = None
    for scale in range(len(model.lengths)):
        if cached:
            logits = model.forward_scale(_both(inputs, twice), asked, scale, caches)
        else:
            logits = model(_both(_all_inputs(quantizer, tokens), twice), asked)[:, model.slices[scale]]
        logits = logits.float()
        if twice:
            logits = guided(*logits.chunk(2), guidance)
        drawn = _draw(logits, top_k, top_p, temperature, generator)
        tokens = torch.cat([tokens, drawn], dim=1)
        if scale + 1 < len(model.lengths):
            summed = summed + quantizer.embed(drawn, scale)
            inputs = quantizer.pooled(summed, scale + 1)
    model.train(was_training[0]), quantizer.train(was_training[1])
    return tokens


def _draw(logits: Tensor, top_k: int, top_p: float, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    chances = keep_likely(logits / temperature, top_k, top_p).softmax(dim=-1)
    return torch.multinomial(chances.flatten(0, 1), 1, generator=generator).view(logits.shape[:2])


def _both(inputs: Tensor | None, twice: bool) -> Tensor | None:
    return torch.cat([inputs, inputs]) if twice and inputs is not None else inputs


def _all_inputs(quantizer: BandQuantizer, tokens: Tensor) -> Tensor:
    """Return the inputs of every scale; later scales use code 0, which the mask hides."""
    missing = sum(quantizer.lengths) - tokens.shape[1]
    return quantizer.next_inputs(torch.cat([tokens, tokens.new_zeros(len(tokens), missing)], dim=1))
