"""Decoding with foundation models: frozen embeddings, a trained head, full finetuning, LoRA and QLoRA."""
