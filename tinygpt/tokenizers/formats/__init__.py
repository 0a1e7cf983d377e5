"""The files in which tokenizers come: a file here for each."""
