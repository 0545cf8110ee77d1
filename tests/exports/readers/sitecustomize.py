"""Stand-ins for modules that a reader imports for its kernels or its server. STUBS: beginnings of their names, with commas."""

import importlib.abc
import importlib.machinery
import os
import sys
import types


class Meta(type):
    """A class that gives itself for whatever is asked of it, and a decorated function back."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return made(name)

    def __call__(cls, *args, **kwargs):
        if "stand_in" not in vars(cls):
            return super().__call__(*args, **kwargs)
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else cls

    def __getitem__(cls, key):
        return cls

    def __iter__(cls):
        return iter(())


def made(name):
    return Meta(name, (), {"stand_in": True})


class StandIn(types.ModuleType):
    __path__ = ()
    __file__ = "stand-in"
    __version__ = "0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return made(name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.startswith(self.names):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


if os.environ.get("STUBS"):
    import torch._dynamo
    import torch.utils._triton

    torch.utils._triton.has_triton_package()  # cached: torch must not take a stand-in for the real one
    torch.utils._triton.has_triton()
    sys.meta_path.append(Finder(tuple(os.environ["STUBS"].split(","))))
