"""What a name in the package is: a module is not hidden by a function of its name."""

import importlib
import pkgutil
import sys

import handgrad


def test_every_module_is_what_its_dotted_name_yields():
    names = [module.name for module in pkgutil.walk_packages(handgrad.__path__, "handgrad.")]
    hidden = []
    for name in names:
        if name.endswith(("torch_peer", "__main__")):
            continue  # programs: the one ends without PyTorch, the other is the command line
        importlib.import_module(name)
        parent, _, leaf = name.rpartition(".")
        if getattr(sys.modules[parent], leaf) is not sys.modules[name]:
            hidden.append(name)
    assert not hidden
