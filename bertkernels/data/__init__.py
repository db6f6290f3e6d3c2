"""Text and examples: built-in text, readers, tokenizers, packed pre-training examples, classification tables."""
