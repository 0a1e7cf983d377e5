"""Puts a bug into tinygpt, for as long as a test runs."""

import importlib
import inspect
import sys
import types


def plant(monkeypatch, path, line, bug):
    """Run tinygpt.path with `bug` in place of `line`, and have everyone use what it defines."""
    module = importlib.import_module(f"tinygpt.{path}")
    source = inspect.getsource(module)
    assert source.count(line) == 1, f"{line!r} stands {source.count(line)} times in {path}"
    wrong = types.ModuleType(module.__name__)
    wrong.__package__ = module.__package__
    exec(compile(source.replace(line, bug), f"{path} with a bug", "exec"), vars(wrong))

    replaced = {
        id(right): vars(wrong)[name]
        for name, right in vars(module).items()
        if getattr(right, "__module__", None) == module.__name__
    }
    for name, user in list(sys.modules.items()):
        if name.split(".")[0] == "tinygpt":
            for alias, used in list(vars(user).items()):
                if id(used) in replaced:
                    monkeypatch.setattr(user, alias, replaced[id(used)])
