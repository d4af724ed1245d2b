"""The NeuroFM network: tokenizer, encoder, heads, and the losses over spikes."""
