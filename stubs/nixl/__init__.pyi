# The meta package loads one backend wheel and puts its submodules into its own namespace. Only the two submodules that
# this project imports are named here; nixl also copies their public names upwards, and nobody here relies on that.
from . import _api as _api
from . import _bindings as _bindings
