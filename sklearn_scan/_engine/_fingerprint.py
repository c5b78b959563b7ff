# SPDX-License-Identifier: BSD-3-Clause
"""What an object does, as a string: another one where its code has changed.

A pickle holds a function by its name. So a cache that is asked by pickles answers from
before when the function, or another one that it calls, was edited. Here functions are
followed to all that they refer to: their code, defaults, closures and globals, and the
functions, classes and values among these. Code of Python and of installed libraries is
known by name and version.

Nothing depends on the process: neither addresses nor the order of sets, neither line
numbers nor the places of files.
"""

import copyreg
import dis
import enum
import functools
import hashlib
import importlib
import importlib.util
import platform
import sys
import types
from importlib import metadata

import numpy as np
import torch

from sklearn_scan._version import __version__

_PRIMITIVES = (type(None), type(...), type(NotImplemented), bool, int, float, complex)
_PRIMITIVES += (str, bytes, bytearray, range)

# Written by Python, and not by who wrote the class.
_OF_CLASSES = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__classdictcell__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__qualname__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}

_CODE = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags")
_CODE += ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars")


def fingerprint(value):
    """Return a string that is the same for what does the same, in every process.

    Parameters
    ----------
    value : object
        A function, a class, a `functools.partial`, a bound method, an instance; or
        values, and containers of such.

    Returns
    -------
    fingerprint : str

    Raises
    ------
    TypeError
        Where it refers to something that is not known again, such as an open file.
    """
    try:
        return _Reader().read(value)
    except RecursionError:
        raise TypeError("it refers to objects nested too deeply") from None


class _Reader:
    """Reads one object with all that it refers to.

    A part that was read is not read again, and one that is being read stands for
    itself by its name, so that functions may call each other.
    """

    def __init__(self):
        self.done = {}
        self.under_way = set()
        self.kept = []  # or their ids would be those of others

    def read(self, value):
        """Return the fingerprint of a value."""
        if isinstance(value, _PRIMITIVES):
            return _join(type(value).__name__, repr(value))
        key = id(value)
        if key in self.done:
            return self.done[key]
        if key in self.under_way:
            return _join("recursion", getattr(value, "__qualname__", ""))
        self.under_way.add(key)
        self.kept.append(value)
        self.done[key] = _join(*self._parts(value))
        self.under_way.remove(key)
        return self.done[key]

    def _parts(self, value):
        """Return the strings that a value is known by."""
        if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            return type(value).__name__, *map(self.read, value)
        if type(value) in (set, frozenset):
            return type(value).__name__, *sorted(map(self.read, value))
        if type(value) in (dict, types.MappingProxyType):
            return "dict", *self._pairs(value)
        if isinstance(value, np.ndarray) and value.dtype != object:
            return _parts_of_array(value)
        if isinstance(value, torch.Tensor):
            return _parts_of_tensor(value)
        if isinstance(value, types.CodeType):
            return "code", *map(self.read, _values_of_code(value))
        if isinstance(value, types.ModuleType):
            return "module", *_name_and_version(value.__name__)
        if isinstance(value, enum.Enum):
            return "enum", value.name, self.read(value.value), self.read(type(value))
        if isinstance(value, types.FunctionType):
            return self._parts_of_function(value)
        if isinstance(value, type):
            return self._parts_of_class(value)
        return self._parts_of_object(value)

    def _pairs(self, mapping):
        """Return the items of a mapping, in an order of their own."""
        items = ((self.read(key), self.read(value)) for key, value in mapping.items())
        return [_join(*pair) for pair in sorted(items)]

    def _parts_of_function(self, function):
        if _is_importable(function):
            return "function", *_name_and_version(_name_of(function))
        held = {k: v for k, v in vars(function).items() if k != "__wrapped__"}
        values = (
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            [_open(cell) for cell in function.__closure__ or ()],
            held,
        )
        # `functools.wraps` lends a function of a library the name of another: what it
        # is made of says whose globals they are.
        is_foreign = _is_library(function.__globals__.get("__name__", "__main__"))
        referred = [] if is_foreign else self._referred(function)
        return "function", *map(self.read, values), *referred

    def _referred(self, function):
        """Return what the code of a function finds outside of it."""
        found = function.__globals__
        attributes, seen = _attributes_in(function.__code__), set()
        names = sorted(_globals_in(function.__code__) & found.keys())
        values = [found[name] for name in names]
        imported = sorted(_imports_in(function.__code__, found.get("__package__")))
        values += map(_import, imported)
        return [
            _join(name, self._read_referred(value, attributes, seen))
            for name, value in zip(names + imported, values, strict=True)
        ]

    def _read_referred(self, value, attributes, seen):
        """Read a global; of a module that is no library, what may be used of it."""
        is_own = isinstance(value, types.ModuleType) and not _is_library(value.__name__)
        if not is_own or value in seen:
            return self.read(value)
        seen.add(value)
        parts = [
            _join(name, self._read_referred(getattr(value, name), attributes, seen))
            for name in sorted(attributes & vars(value).keys())
        ]
        return _join("module", *parts)

    def _parts_of_class(self, cls):
        if _is_importable(cls):
            return "class", *_name_and_version(_name_of(cls))
        held = {k: v for k, v in vars(cls).items() if k not in _OF_CLASSES}
        bases = map(self.read, cls.__bases__)
        # Without its module: a script that is run has other names in other processes.
        return (
            "class",
            cls.__qualname__,
            *bases,
            self.read(type(cls)),
            *self._pairs(held),
        )

    def _parts_of_object(self, value):
        """Return what a pickle would hold, and what its class does."""
        if isinstance(value, (staticmethod, classmethod)):
            return type(value).__name__, self.read(value.__func__)
        if isinstance(value, property):
            return "property", *map(self.read, (value.fget, value.fset, value.fdel))
        if isinstance(value, types.MethodType):
            return "method", self.read(value.__func__), self.read(value.__self__)
        if isinstance(value, functools.partial):
            held = (value.func, value.args, value.keywords, vars(value))
            return "partial", self.read(type(value)), *map(self.read, held)
        if isinstance(value, functools.cached_property):
            return "cached_property", self.read(value.func)
        if isinstance(value, _LRU_CACHE):
            return "cache", self.read(value.__wrapped__)
        if isinstance(value, _BUILTINS):
            return "builtin", *_name_and_version(_name_of(value)), *self._owner(value)
        return "object", self.read(type(value)), *self._state(value)

    def _owner(self, builtin):
        """Read whose method a built-in one is."""
        owner = getattr(builtin, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType):
            return []
        return [self.read(owner)]

    def _state(self, value):
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = reduce(value) if reduce else value.__reduce_ex__(2)
        except Exception as error:
            kind = _name_of(type(value))
            raise TypeError(
                f"it refers to an object of the type {kind}, which cannot be pickled"
            ) from error
        if isinstance(reduced, str):
            return [reduced]
        make, args, *rest = reduced
        if make in (copyreg.__newobj__, _reconstructor):
            args = args[1:]  # after the class, which has been read
        # Of what is in a list or a dictionary there are iterators.
        rest = [list(r) if hasattr(r, "__next__") else r for r in rest]
        return map(self.read, (make, args, rest))


# What old protocols of pickle make objects by; private in `copyreg`.
_reconstructor = object().__reduce_ex__(0)[0]

_BUILTINS = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_LRU_CACHE = type(functools.lru_cache(len))


def _join(*parts):
    """Hash strings, so that no two lists of them give the same."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        part = part.encode(errors="surrogatepass")
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def _parts_of_array(array):
    data = np.ascontiguousarray(array)
    digest = hashlib.blake2b(data.view(np.uint8).reshape(-1) if data.size else b"")
    return "array", str(array.dtype.descr), str(array.shape), digest.hexdigest()


def _parts_of_tensor(tensor):
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    grads = str(tensor.requires_grad)
    return (
        "tensor",
        str(tensor.dtype),
        str(tuple(tensor.shape)),
        grads,
        *(_parts_of_array(data)),
    )


def _values_of_code(code):
    return *(getattr(code, name) for name in _CODE), code.co_consts


def _open(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return "an empty cell"


def _all_code(code):
    """Yield code and the code of the functions that it defines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _instructions(code):
    for part in _all_code(code):
        yield from dis.get_instructions(part)


def _globals_in(code):
    reads = ("LOAD_GLOBAL", "LOAD_NAME")
    return {i.argval for i in _instructions(code) if i.opname in reads}


def _attributes_in(code):
    """Return the names of attributes, and of what is imported from modules."""
    return {name for part in _all_code(code) for name in part.co_names}


def _imports_in(code, package):
    """Return the modules that code imports by itself, but for libraries."""
    names = set()
    for part in _all_code(code):
        level = 0
        for step in dis.get_instructions(part):
            if step.opname in ("LOAD_CONST", "LOAD_SMALL_INT") and isinstance(
                step.argval, int
            ):
                level = step.argval
            if step.opname == "IMPORT_NAME":
                names.add("." * level + step.argval)
                level = 0
    if package:
        names = {importlib.util.resolve_name(name, package) for name in names}
    return {name for name in names if not _is_library(name)}


def _import(name):
    """Import a module, as the function does that is read."""
    try:
        return importlib.import_module(name)
    except Exception:  # the function will say so when it is called
        return None


def _name_of(value):
    """Return the name of a class, a function or a method, with its module."""
    owner = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(owner, '__module__', None) or 'builtins'}.{owner.__qualname__}"


def _is_importable(value):
    """Say whether a name leads to a function or a class, in a library."""
    module = getattr(value, "__module__", None) or "builtins"
    return _is_library(module) and "<locals>" not in value.__qualname__


def _name_and_version(name):
    return name, _version_of(name.partition(".")[0])


@functools.lru_cache(maxsize=1024)
def _is_library(module):
    """Say whether a module is of Python, installed, or of this package."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package in ("sklearn_scan", "builtins"):
        return True
    if package == "__main__":
        return False
    loaded = sys.modules.get(module) or sys.modules.get(package)
    try:
        spec = loaded.__spec__ if loaded else importlib.util.find_spec(package)
    except (AttributeError, ValueError, ImportError):
        return False
    if spec is None:
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(
        f"{folder}-packages" in place.replace("\\", "/").split("/")
        for place in places
        for folder in ("site", "dist")
    )


@functools.lru_cache(maxsize=1024)
def _version_of(package):
    if package == "sklearn_scan":
        return __version__
    if package in sys.stdlib_module_names or package == "builtins":
        return platform.python_version()
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
