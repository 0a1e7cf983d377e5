"""The steps around a model in a tokenizer.json: each file reads one kind and makes functions."""
