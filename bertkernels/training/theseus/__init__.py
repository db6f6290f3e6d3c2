"""BERT-of-Theseus: fine-tuning with a module-replacing encoder whose predecessor is frozen."""
