"""The commands of python -m tinygpt, a file each, with add_options(parser) and run(options).

command_line.py is what they share with examples/train_shakespeare.py.
"""
