"""Forms of text for pre-training, one module a form; each is read as lines: sentences, and "" at a document's end."""
