"""Text encoder and transformer together, the sampler's noise levels, and prompt batches."""

import torch
import torch.nn as nn
from tokenizers import Tokenizer

from dit import CausalDiT
from text_encoder import TextEncoder
from tokenizer import token_ids


def warp(step, shift=5.0):
    """Position of the 1000-step schedule -> sigma."""
    u = step / 1000.0
    return shift * u / (1 + (shift - 1) * u)


SAMPLER_SIGMAS = [warp(step) for step in (1000, 750, 500, 250)]  # 1, .9375, .8333, .625


class ToyModel(nn.Module):
    def __init__(self, vocab, **sizes):
        super().__init__()
        self.text_encoder = TextEncoder(vocab)
        self.dit = CausalDiT(**sizes)

    def context(self, ids):
        """Token ids [B,32] -> embedded text [B,32,d]; padding rows are zero before the text embedding."""
        return self.dit.text_embedding(self.text_encoder(ids))


class Prompts:
    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(path)
        self.vocab = self.tokenizer.get_vocab_size()

    def batch(self, texts):
        return torch.tensor([token_ids(self.tokenizer, text) for text in texts])


def per_frame(values):
    """Broadcast [B,F] over channels and pixels."""
    return values[..., None, None, None]


def mix(x0, noise, sigma):
    """(1 - sigma) x0 + sigma noise with sigma [B,F]."""
    sigma = per_frame(sigma)
    return (1 - sigma) * x0 + sigma * noise
