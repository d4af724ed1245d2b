"""Decoding with foundation models: frozen, with a head, finetuned whole, LoRA, QLoRA."""
