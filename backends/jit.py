"""LLVM text to object bytes, and object bytes to callable addresses in this process.

The object bytes are the one artefact: what the cache keeps, what ahead-of-time compilation writes,
what the JIT links. LLVM selects, schedules and allocates registers; no IR pass runs, because the
loop IR is already as it should be. llvmlite is imported when something is first compiled or loaded.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from symgraph.errors import InternalError

from . import objectfile, targets
from .targets import Target

# Of instruction selection and scheduling; 3 gives the same code for explicit vectors.
OPTIMIZATION = 2
QUICK = 0  # for code that runs once a call: compiles three times faster

_lock = threading.Lock()
_generating = threading.Lock()  # held while options of LLVM's, which all threads share, are ours
_machines: dict[tuple[str, int], Any] = {}
_linker: Any = None
_numbers = itertools.count()


def compile_object(text: str, target: Target, level: int = OPTIMIZATION) -> bytes:
    """Object code of an LLVM module for `target`. The same arguments give the same bytes.

    Raises: InternalError, with the offending line, if LLVM's parser or verifier refuses the text.
    """
    module, machine = _module(text, target, level)
    with _our_options():
        return machine.emit_object(module)


def compile_assembly(text: str, target: Target) -> str:
    """Assembly of an LLVM module for `target`, to be read."""
    module, machine = _module(text, target)
    with _our_options():
        return machine.emit_assembly(module)


@contextmanager
def _our_options() -> Iterator[None]:
    """Generate code without strength reduction, a fifth of the time: the emitter has done it."""
    from llvmlite import binding

    with _generating:
        binding.set_option("symgraph", "-disable-lsr=1")
        try:
            yield
        finally:
            binding.set_option("symgraph", "-disable-lsr=0")


def llvm_version() -> str:
    """The version of LLVM, and of llvmlite; part of every cache key."""
    import llvmlite
    from llvmlite import binding

    return f"llvm {'.'.join(map(str, binding.llvm_version_info))} llvmlite {llvmlite.__version__}"


class Library:
    """Loaded code: addresses are valid while this object lives; the memory is freed with it."""

    def __init__(self, tracker: Any, exports: Iterable[str]):
        self._tracker = tracker
        self._addresses = {name: tracker[name] for name in exports}

    def address(self, name: str) -> int:
        """The address of an exported function. Raises KeyError for a name that was not exported."""
        return self._addresses[name]


def load(
    objects: Sequence[bytes], exports: Iterable[str], imports: Mapping[str, int] | None = None
) -> Library:
    """Link objects with each other and with `imports` (name -> address) into this process.

    Any thread may load at any time. Object bytes must come from `compile_object` or the checksummed
    cache: LLVM crashes on a damaged object.

    Raises: InternalError for an object of another machine, or a symbol that nothing defines.
    """
    from llvmlite import binding

    exports, imports = list(exports), imports or {}
    _check(objects, exports, imports)
    builder = binding.JITLibraryBuilder().add_current_process()
    for data in objects:
        builder.add_object_img(data)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    for name in exports:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_get_linker(), f"symgraph{next(_numbers)}")
    except RuntimeError as error:
        raise InternalError(f"linking {', '.join(exports)}: {error}") from error
    return Library(tracker, exports)


def _module(text: str, target: Target, level: int = OPTIMIZATION) -> tuple[Any, Any]:
    """The text parsed in its own context and verified: LLVM aborts on invalid IR."""
    from llvmlite import binding

    machine = _machine(target, level)
    try:
        module = binding.parse_assembly(text, binding.create_context())
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"LLVM refuses the module: {error}") from error
    return module, machine


def _machine(target: Target, level: int = OPTIMIZATION) -> Any:
    """LLVM's target machine, made once for each target and level."""
    with _lock:
        machine = _machines.get((target.key, level))
        if machine is None:
            machine = _machines[target.key, level] = _create_machine(target, level)
        return machine


def _create_machine(target: Target, level: int) -> Any:
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.llvm_features,
        opt=level,
        reloc="pic",
        codemodel="small",
        abiname="",
    )


def _get_linker() -> Any:
    """The process's one LLJIT, on JITLink."""
    global _linker
    from llvmlite import binding

    machine = _machine(targets.detect())
    with _lock:
        if _linker is None:
            _linker = binding.create_lljit_compiler(machine, use_jit_link=True)
        return _linker


def keep_forever(library: Library) -> None:
    """Never unmap a library, not even when the interpreter ends."""
    for owner in (library, _get_linker()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


def is_for(data: bytes, target: Target) -> bool:
    """Whether the bytes begin as an object for the target's kind of machine does."""
    if "linux" not in target.triple:
        return True
    return objectfile.is_elf(data) and objectfile.machine(data) == objectfile.MACHINES[target.arch]


def _check(objects: Sequence[bytes], exports: list[str], imports: Mapping[str, int]) -> None:
    """Refuse ELF objects of another machine, and symbols that nothing defines.

    Other formats are the host's own and are left to LLVM.
    """
    here = targets.detect()
    if "linux" not in here.triple:
        return
    defined, wanted = set(imports), set(exports)
    for data in objects:
        if not objectfile.is_elf(data):
            raise InternalError("load: not an object file")
        if objectfile.machine(data) != objectfile.MACHINES[here.arch]:
            number = objectfile.machine(data)
            raise InternalError(f"load: object for ELF machine {number}, this is {here.arch}")
        symbols = objectfile.symbols(data)
        defined |= symbols.defined
        wanted |= symbols.undefined
    process = ctypes.CDLL(None)
    missing = sorted(name for name in wanted - defined if not hasattr(process, name))
    if missing:
        raise InternalError(f"load: nothing defines {', '.join(missing)}")
