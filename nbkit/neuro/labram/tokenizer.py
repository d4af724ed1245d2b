"""LaBraM's tokenizer (VQ-NSP): patches to codes, and codes to the spectra of the patches.

Spectra, distances and losses are computed in float32, also under autocast. A frozen tokenizer stays in evaluation mode
even if `train()` is called on a module that holds it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.labram.backbone import MICROVOLTS, NeuralTransformer, cut_patches
from nbkit.neuro.nn.attention import init_weights
from nbkit.neuro.nn.vq import EMACodebook, Quantised, nearest_code

_SILENT = 1e-6  # share of a window's largest amplitude; below it is rounding error, whose phase is noise


class Spectrum(NamedTuple):
    """Amplitude and phase of patches, z-scored over the channels, patches and bins of each window.

    Attributes
    ----------
    amplitude : Tensor of shape (batch, tokens, bins)
    phase : Tensor of shape (batch, tokens, bins), or twice the bins: sines, then cosines
    moments : tuple of four Tensors of shape (batch, 1, 1)
        Mean and standard deviation of the amplitude, then of the phase.
    """

    amplitude: Tensor
    phase: Tensor
    moments: tuple[Tensor, Tensor, Tensor, Tensor]


def spectrum(patches: Tensor, *, sincos: bool = False) -> Spectrum:
    """Compute the training targets of the tokenizer: all bins of the discrete Fourier transform of each patch.

    Parameters
    ----------
    patches : Tensor of shape (batch, channels, patches, samples)
    sincos : bool
        Use sine and cosine of the phase instead of its angle, which jumps at pi (LaBraM++, arXiv:2505.16724).

    Returns
    -------
    spectrum : Spectrum
        A channel without signal, such as a reference, has amplitude and phase 0 before the z-score. A window without
        any signal is 0 after it.
    """
    with torch.autocast(patches.device.type, enabled=False):
        bins = torch.fft.fft(patches.flatten(1, 2).float(), dim=-1)
        amplitude = bins.abs()
        silent = amplitude <= _SILENT * amplitude.amax(dim=(1, 2), keepdim=True)
        angle = bins.angle()
        real = [0] if patches.shape[-1] % 2 else [0, patches.shape[-1] // 2]
        angle[..., real] = angle[..., real].abs()  # -pi and pi are the same angle: do not let rounding choose
        angle = angle.masked_fill(silent, 0.0)
        phase = torch.cat([angle.sin(), angle.cos()], dim=-1) if sincos else angle
        amplitude, *first = _z_scored(amplitude)
        phase, *second = _z_scored(phase)
        return Spectrum(amplitude, phase, (*first, *second))


def _z_scored(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    deviation, mean = torch.std_mean(values, dim=(1, 2), keepdim=True)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    return (values - mean) / deviation, mean, deviation


class Tokenized(NamedTuple):
    """Losses of shape () and codes of shape (batch, tokens) of a batch."""

    loss: Tensor
    quant: Tensor
    amplitude: Tensor
    phase: Tensor
    indices: Tensor


class VQNSP(nn.Module):
    """Encoder, codebook, decoder, and two heads for amplitude and phase (Jiang et al. 2024, section 2.2).

    Parameters
    ----------
    patch : int
        Samples of a patch.
    encoder_depth, decoder_depth, dim, heads, mlp_ratio
        Sizes of the two transformers, which have biased queries and values, and no qk-norm and no layer scale.
    codebook_size, code_dim : int
        Number of codes, and length of each.
    decay, beta, restart_below : float
        See `EMACodebook`.
    table : str
        Table of channel names.
    sincos : bool
        See `spectrum`.
    """

    def __init__(
        self,
        patch: int,
        encoder_depth: int,
        decoder_depth: int,
        codebook_size: int,
        code_dim: int,
        *,
        dim: int = 200,
        heads: int = 10,
        mlp_ratio: float = 4.0,
        decay: float = 0.99,
        beta: float = 1.0,
        restart_below: float = 0.0,
        table: str = "egi_129",
        sincos: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.sincos = patch, sincos
        shape = {
            "mlp_ratio": mlp_ratio, "table": table, "qkv_bias": True, "qk_norm": False, "layer_scale": 0.0,
        }  # fmt: skip
        self.encoder = NeuralTransformer(patch, encoder_depth, dim, heads, **shape)
        self.decoder = NeuralTransformer(patch, decoder_depth, dim, heads, code_dim=code_dim, **shape)
        self.quantize = EMACodebook(codebook_size, code_dim, decay=decay, beta=beta, restart_below=restart_below)
        self.encode_task_layer = _head(dim, code_dim)
        self.decode_task_layer = _head(dim, patch)
        self.decode_task_layer_angle = _head(dim, 2 * patch if sincos else patch)
        self.frozen = False

    def freeze(self) -> VQNSP:
        """Freeze the tokenizer for good: no gradients, and always evaluation mode. Return it."""
        self.requires_grad_(False)
        self.frozen = True
        return self.eval()

    def train(self, mode: bool = True) -> VQNSP:
        """Set training mode; a frozen tokenizer stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def fingerprint(self) -> str:
        """Return a SHA-256 hash of all weights that determine the codes of a window."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            if name.startswith("encode") or name == "quantize.weight":
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, windows: Tensor, rows: Tensor) -> Tensor:
        """Return the vectors to quantise, (batch, tokens, code_dim), for windows in uV."""
        features = self.encoder(cut_patches(windows, self.patch), rows)
        return self.encode_task_layer(features[:, 1:])

    @torch.no_grad()
    def codes(self, windows: Tensor, rows: Tensor) -> Tensor:
        """Return the indices of the codes, int64 of shape (batch, tokens), for windows in uV; no state changes."""
        vectors = self.encode(windows, rows)
        flat = F.normalize(vectors.float(), dim=-1).flatten(0, 1)
        return nearest_code(flat, self.quantize.weight).view(vectors.shape[:2])

    def decode(self, vectors: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return z-scored amplitude and phase, (batch, tokens, bins) each, for quantised vectors."""
        features = self.decoder(vectors, rows)[:, 1:]
        return self.decode_task_layer(features), self.decode_task_layer_angle(features)

    def forward(self, windows: Tensor, rows: Tensor) -> Tokenized:
        """Return losses and codes for windows of shape (batch, channels, time), in uV."""
        quantised: Quantised = self.quantize(self.encode(windows, rows))
        amplitude, phase = self.decode(quantised.vectors, rows)
        target = spectrum(cut_patches(windows, self.patch), sincos=self.sincos)
        amplitude_loss = F.mse_loss(amplitude.float(), target.amplitude)
        phase_loss = F.mse_loss(phase.float(), target.phase)
        total = quantised.loss + amplitude_loss + phase_loss
        return Tokenized(total, quantised.loss, amplitude_loss, phase_loss, quantised.indices)

    def amplitude_loss(self, windows: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
        """Return the error of the amplitudes, shape (), if codes of shape (batch, tokens) stand for the windows."""
        amplitude, _ = self.decode(F.embedding(indices, self.quantize.weight), rows)
        target = spectrum(cut_patches(windows, self.patch), sincos=self.sincos)
        return F.mse_loss(amplitude.float(), target.amplitude)

    @torch.no_grad()
    def reconstruct(self, windows: Tensor, rows: Tensor, *, own_phase: bool = False) -> Tensor:
        """Return windows, in uV, reconstructed from the amplitudes and phases of their codes, in the same shape.

        The codes do not hold the mean and deviation of a window's spectrum, so those of the window itself are used.
        With ``own_phase`` the phases are the window's own as well: the result then shows how well the amplitudes are
        kept.
        """
        amplitude, phase = self.decode(F.embedding(self.codes(windows, rows), self.quantize.weight), rows)
        patches = cut_patches(windows, self.patch)
        target = spectrum(patches, sincos=self.sincos)
        mean, deviation, phase_mean, phase_deviation = target.moments
        phase = target.phase if own_phase else phase
        amplitude = (amplitude.float() * deviation + mean).clamp(min=0)
        phase = phase.float() * phase_deviation + phase_mean
        if self.sincos:
            sine, cosine = phase.chunk(2, dim=-1)
            phase = torch.atan2(sine, cosine)
        signal = torch.fft.ifft(torch.polar(amplitude, phase), dim=-1).real * MICROVOLTS
        return signal.reshape_as(windows)


def _head(dim: int, out: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, out))
    init_weights(head)
    return head
