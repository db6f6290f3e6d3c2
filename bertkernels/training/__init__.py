"""Pre-training and fine-tuning on transformers' Trainer."""
