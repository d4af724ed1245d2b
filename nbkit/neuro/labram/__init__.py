"""LaBraM: codes for EEG patches, pretraining on masked codes, finetuning (Jiang et al. 2024, arXiv:2405.18765)."""
