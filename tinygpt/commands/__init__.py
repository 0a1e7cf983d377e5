"""The commands of python -m tinygpt, a file each, with add_options(parser) and run(options)."""
