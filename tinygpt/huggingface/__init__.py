"""Other people's checkpoints: the folders of Hugging Face, and the files of llama2.c.

families.py is the table: what each family calls what we have. The rest reads and writes by it.
No torch is needed, and nothing that a folder holds is ever executed.
"""

from .families import FAMILIES
from .folder import Folder, export
from .hub import find_folder
from .llama2c import Llama2c

__all__ = ["FAMILIES", "Folder", "Llama2c", "export", "find_folder"]
