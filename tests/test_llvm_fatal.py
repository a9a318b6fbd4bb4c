"""What ends or hangs a process that uses LLVM directly cannot be reached here, or raises.

LLVM's library aborts, exits, crashes, hangs or accepts silently on each of these 28 inputs when it
is given them as they are. Each case here shows that the public door does not let it happen: the
names and texts of users never become code, machines are looked up in tables, modules are verified
before they are compiled, objects are checked before they are linked, and no block or stack frame
grows with the user's program. Whatever could end the process runs in a process of its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import jit, targets
from tests.emitted import blocks, corpus, never_emitted, run, sources, texts

TARGETS = [
    "x86-64",
    "x86-64-v3,-fma",
    "x86-64-v4,-avx512bw",
    "icelake-server,-avx512vnni,-avx512vbmi",
    "cortex-a72",
    "cortex-a7",
    "cortex-a9",
]

# --- modules that LLVM refuses, and machines it does not know ---

PHI = (
    "define i32 @f(i1 %c) {\nentry:\n br i1 %c, label %x, label %y\nx:\n br label %z\n"
    "y:\n br label %z\nz:\n %p = phi i32 [1, %x]\n ret i32 %p\n}"
)
REFUSE = """
import sys
import symgraph as sg
from symgraph.backends import jit, targets
for compile in (jit.compile_object, jit.compile_assembly):
    try:
        compile(sys.argv[1], targets.host())
    except sg.InternalError as error:
        print(str(error).split("\\n")[0])
"""


def refused(text: str) -> None:
    """Both ways from text to code raise."""
    assert run(REFUSE, text).count("LLVM refuses the module: ") == 2


def only_one_file_parses() -> None:
    """No public name takes LLVM text: one private module parses it, and verifies it there."""
    callers = [name for name, text in sources().items() if "parse_assembly" in text]
    assert callers == ["backends/jit.py"]
    text = sources()["backends/jit.py"]
    assert text.count("parse_assembly") == 1
    assert re.search(r"parse_assembly\(.*\)\n\s+module\.verify\(\)", text)


def text_that_does_not_parse() -> None:
    only_one_file_parses()
    refused("define i32 @f( {")


def block_without_an_end() -> None:
    refused("define i32 @f() {\nentry:\n %a = add i32 1, 2\n}")


def phi_that_lacks_an_edge() -> None:
    refused(PHI)


def invalid_module_compiled_without_a_check() -> None:
    only_one_file_parses()
    for text in corpus():
        jit._module(text, targets.host())  # what is emitted is valid


def symbol_that_mcjit_takes_for_granted() -> None:
    assert not [name for name, text in sources().items() if "mcjit" in text.lower()]


def symbol_that_nothing_defines() -> None:
    text = "declare double @nosuch(double)\ndefine double @f(double %x) {\n"
    text += " %y = call double @nosuch(double %x)\n ret double %y\n}"
    with pytest.raises(sg.InternalError, match="^load: nothing defines nosuch$"):
        jit.load([jit.compile_object(text, targets.host())], ["f"])


def inline_assembly() -> None:
    never_emitted(r"\basm\b")


def constraint_of_inline_assembly() -> None:
    never_emitted(r"sideeffect|inteldialect|=\{")


def unknown_cpu() -> None:
    code = "import symgraph as sg; x = sg.vector('x')\ntry: sg.function([x], x)\n"
    code += "except sg.TargetError as error: print(error)"
    shown = run(f"import os; os.environ['SYMGRAPH_CPU'] = 'nosuchcpu'\n{code}")
    assert shown.startswith("unknown target 'nosuchcpu'\n  hint: known: host, x86-64, ")
    with pytest.raises(sg.TargetError, match="unknown target 'nosuchcpu'"):
        sg.target("nosuchcpu")
    x = sg.vector("x")
    with pytest.raises(sg.TargetError, match="unknown target 'nosuchcpu'"):
        sg.compile_ahead([x], x + 1, "nosuchcpu")


def unknown_feature() -> None:
    for name in ("host,+nosuch", "x86-64,+avx513f", "cortex-a7,+dotproduct", "x86-64,avx2"):
        with pytest.raises(sg.TargetError, match="unknown feature"):
            sg.target(name)


SWEEP = """
import os, sys
os.environ["SYMGRAPH_CACHE"] = "0"
import symgraph as sg
from symgraph.backends import objectfile
from tests.emitted import groups
programs = groups()
for name in sys.argv[1:]:
    target = sg.target(name)
    for inputs, outputs in programs:
        for data in sg.compile_ahead(inputs, outputs, target).objects.values():
            assert objectfile.machine(data) == objectfile.MACHINES[target.arch]
    print(name, flush=True)
"""


@functools.cache
def swept() -> list[str]:
    """The targets for which every op was compiled, in a process that LLVM might have ended."""
    return run(SWEEP, *TARGETS).split("\n")


def intrinsic_of_another_machine() -> None:
    assert swept() == TARGETS


def intrinsic_without_the_feature() -> None:
    assert swept() == TARGETS
    baseline = {"x86-64": "x86-64", "aarch64": "aarch64", "armv7": "armv7"}[targets.detect().arch]
    code = (
        f"import os; os.environ['SYMGRAPH_CPU'] = '{baseline}'\n"
        "import symgraph as sg, numpy as np\n"
        "x = sg.matrix('x'); f = sg.function([x], [sg.exp(x) @ x.T, x.astype('float16'),"
        " sg.softmax(x), sg.floor(x)])\n"
        "a, b, c, d = f(np.full((3, 37), 1.5, 'f'))\n"
        "print(a[0, 0].round(2), b[0, 0], c.sum().round(4), d[0, 0])"
    )
    assert run(code) == "248.73 1.5 3.0 1.0"


def integers_of_any_width() -> None:
    widths = {int(n) for text in corpus() for n in re.findall(r"\bi(\d+)\b", text)}
    assert {8, 16, 32, 64} <= widths and max(widths) <= 128


def scalable_vectors() -> None:
    never_emitted(r"vscale")


STACK = """
import threading
import numpy as np
import symgraph as sg
m, x = sg.matrix("m"), sg.vector("x")
start = sg.zeros((m.shape[1],))
big = sg.constant(np.ones(2_000_000))
functions = [
    sg.function([m], sg.softmax(m)),
    sg.function([m], (m - m.mean(axis=1, keepdims=True)) / (1 + m.var(axis=1, keepdims=True))),
    sg.function([m], sg.cumsum(m, axis=1) + (m @ m.sum(axis=0))[:, None]),
    sg.function([m], sg.scan(lambda row, s: s + row, m, start)[0]),
    sg.function([x], [x + float(i) for i in range(100)]),
    sg.function([x], x.sum() + (big * 2).sum()),
]
done = []
def work():
    for f in functions[:4]:
        for shape in ((1, 1_000_000), (3000, 300), (0, 5)):
            f(np.ones(shape, np.float32))
    for f in functions[4:]:
        f(np.ones(1000, np.float32))
    done.append(True)
threading.stack_size(64 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(done)
"""


def arrays_on_the_stack() -> None:
    """Rows, tiles, constants and lists of outputs are not on the stack: 64 KiB are enough."""
    assert run(STACK) == "[True]"
    widths = {"i8": 1, "i1": 1, "i16": 2, "half": 2, "i32": 4, "float": 4}
    for text in corpus():
        for count, element in re.findall(r"alloca \[(\d+) x (\w+)\]", text):
            assert int(count) * widths.get(element, 8) <= 64 * 1024


def data_layout() -> None:
    never_emitted(r"target datalayout")


def unknown_triple() -> None:
    for name in ("nosuch-arch-none", "sparc-sun-solaris", "x86_64-pc-windows-msvc"):
        with pytest.raises(sg.TargetError, match=f"unknown target '{name}'"):
            sg.target(name)


def triple_of_another_machine() -> None:
    assert swept() == TARGETS  # every object is for the machine that was asked for
    triples = {t for text in corpus() for t in re.findall(r'target triple = "(.*)"', text)}
    assert triples == {targets.host().triple}


def long_double() -> None:
    with pytest.raises(sg.DTypeError, match="^dtype longdouble is not supported"):
        sg.array("x", (3,), np.longdouble)
    with pytest.raises(sg.DTypeError):
        sg.constant(np.ones(3, np.longdouble))
    never_emitted(r"x86_fp80|fp128|ppc_fp128")


# --- objects in the cache ---

DAMAGE = """
import os, random, sys, warnings
from pathlib import Path
import numpy as np
import symgraph as sg
from symgraph.backends import cache, jit, targets
folder, how = Path(sys.argv[1]), sys.argv[2]
warnings.simplefilter("ignore" if how == "folder" else "error")
os.environ["SYMGRAPH_CACHE"] = str(folder)

def build():
    x, w = sg.matrix("x"), sg.shared(np.full((5, 3), 0.5, np.float32), "w")
    f = sg.function([x], [sg.tanh(x @ w), sg.softmax(x)], updates={w: w * 2})
    return [*(a.tolist() for a in f(np.ones((2, 5), np.float32))), w.get_value().tolist()]

def foreign(data):
    other = sg.target("cortex-a53" if targets.detect().arch != "aarch64" else "x86-64")
    return jit.compile_object("define i32 @f() {\\n ret i32 1\\n}", other)

def flipped(data):
    found = bytearray(data)
    for _ in range(8):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)

random.seed(7)
want = build()
entries = [p for p in folder.rglob("*") if p.is_file()]
assert len(entries) > 4
for turn in range(6 if how == "flipped" else 1):
    names = {p: p.name for p in entries}
    shuffled = dict(zip(entries, [*entries[1:], entries[0]]))
    contents = {p: p.read_bytes() for p in entries}
    for p, data in contents.items():
        if how == "garbage":
            p.write_bytes(b"garbage" * 100)
        elif how == "truncated":
            p.write_bytes(data[: len(data) // 2])
        elif how == "flipped":
            p.write_bytes(flipped(data))
        elif how == "swapped":
            p.write_bytes(contents[shuffled[p]])
        elif how == "folder":
            p.unlink()
            p.mkdir()
        elif how == "foreign":  # an entry that is whole, but of another machine
            cache.put(p.name, foreign(data))
    cache._memory.clear()
    cache._memory_bytes = 0
    if how == "foreign":
        assert all(cache.get(name) for name in names.values())
        cache._memory.clear()
    assert build() == want
print("the same")
"""


def damaged(how: str) -> Callable[[Path], None]:
    """Functions built from a cache whose every entry is damaged give the same numbers."""

    def check(folder: Path) -> None:
        assert run(DAMAGE, str(folder / how), how) == "the same"

    return check


def bitcode() -> None:
    assert not [name for name, text in sources().items() if "bitcode" in text.lower()]


AFTER = """
import gc, sys, threading
import numpy as np
import symgraph as sg
x = sg.vector("x")

class Out:  # drops every reference to the function while its code runs
    def write(self, text):
        functions.clear()
        gc.collect()
    def flush(self):
        pass

functions = [sg.function([x], sg.exp(sg.Print("x")(x) * 0) + 1)]
real, sys.stdout = sys.stdout, Out()
result = functions[0](np.ones(5, np.float32))
sys.stdout = real
assert not functions and result.tolist() == [2] * 5
f = sg.function([x], x * 3)
g, call = f.copy(), f.__call__
del f
gc.collect()
assert g([1]).tolist() == call([1]).tolist() == [3]
w = sg.shared(np.zeros(4, np.float32), "w")
h = sg.function([], w, updates={w: w + 1})
old = h()
del h
gc.collect()
assert old.tolist() == [0] * 4 and w.get_value().tolist() == [1] * 4
print("alive")
"""


def code_after_its_function_is_gone() -> None:
    assert run(AFTER) == "alive"


NAMES = [
    '"b',
    "\nb",
    "\0b",
    "\tb",
    "\\",
    '"; ret void }',
    "@f",
    "%0",
    ".entry",
    "%s%n",
    "{0}{name}",
    "*/",
    "/../../etc",
    "\ud800",
    "ñ",
    "x" * 100_000,
    " ",
]


@pytest.mark.parametrize("tail", NAMES, ids=[ascii(n[:12]) for n in NAMES])
def test_names_never_become_code(tail: str) -> None:
    name = "zqj" + tail
    x, w = sg.vector(name), sg.shared(np.ones(2, np.float32), name)
    y = sg.assert_(x, x > 0, name)
    f = sg.function([x], {name: y * w}, updates={w: w + x}, name=name)
    ones = np.ones(2, np.float32)
    assert f(ones)[name].tolist() == [1, 1] and f(**{name: ones})[name].tolist() == [2, 2]
    with pytest.raises(sg.AssertionFault) as fault:
        f([-1, 1])
    assert str(fault.value).startswith(name + "\n")
    with pytest.raises(sg.ShapeError) as error:
        f([1])
    assert f"(axis 0 of {name})" in str(error.value)
    assert name in f.source("graph") and f.explain()
    assert not [text for text in texts([x], {name: y * w}, {w: w + x}) if "zqj" in text]


def names_with_quotes() -> None:
    x = sg.vector('a"\n;x')
    f = sg.function([x], x + 1, name='a"b\n\0c')
    assert f([1]).tolist() == [2] and f.name == 'a"b\n\0c'
    for name in ('a"b', "a b", "", "1a", "int", "a\n", "ä"):
        with pytest.raises(sg.TargetError):
            sg.compile_ahead([x], x + 1, "cortex-a72", name)


# --- size ---


def chain(length: int) -> list[str]:
    y = x = sg.vector("x")
    for _ in range(length):
        y = sg.sin(y) + 0.1
    return texts([x], y)


def chain_in_one_block() -> None:
    """The longest block does not grow with the chain: LLVM's time is the square of it."""
    longest = [
        max(len(b) for text in chain(n) for function in blocks(text) for b in function)
        for n in (400, 1200)
    ]
    assert longest[1] <= longest[0] < 5000, longest


def checks(count: int) -> list[str]:
    """Assertions one after another, with a choice now and then."""
    y = sg.scalar("s")
    x = y
    for i in range(count):
        y = sg.assert_(y, y > float(-i), f"fault {i}") + 1
        y = y if i % 10 else sg.cond(y > i, y + 1, y * 2)
    return texts([x], y)


def nest_of_blocks() -> None:
    """The number of blocks of a function does not grow with the program."""
    most = [max(len(f) for text in checks(n) for f in blocks(text)) for n in (250, 500)]
    assert most[1] <= 1.1 * most[0] < 5000, most


CASES: dict[str, Callable[..., None]] = {
    "text that does not parse": text_that_does_not_parse,
    "a block without an end": block_without_an_end,
    "a phi that lacks an edge": phi_that_lacks_an_edge,
    "an invalid module, not verified": invalid_module_compiled_without_a_check,
    "an unknown symbol in MCJIT": symbol_that_mcjit_takes_for_granted,
    "an unknown symbol in LLJIT": symbol_that_nothing_defines,
    "inline assembly": inline_assembly,
    "a register that inline assembly names": constraint_of_inline_assembly,
    "an unknown CPU": unknown_cpu,
    "an unknown feature": unknown_feature,
    "an intrinsic of another machine": intrinsic_of_another_machine,
    "an intrinsic without its feature": intrinsic_without_the_feature,
    "a division of 4096 bits": integers_of_any_width,
    "a scalable vector": scalable_vectors,
    "a huge array on the stack": arrays_on_the_stack,
    "a bad data layout": data_layout,
    "an unknown triple": unknown_triple,
    "a module of another machine": triple_of_another_machine,
    "a long double on Arm": long_double,
    "garbage as an object": damaged("garbage"),
    "a truncated object": damaged("truncated"),
    "an object with flipped bits": damaged("flipped"),
    "an object of another machine": damaged("foreign"),
    "garbage as bitcode": bitcode,
    "a module after it is closed": code_after_its_function_is_gone,
    "names with quotes and newlines": names_with_quotes,
    "a chain in one block": chain_in_one_block,
    "a nest of blocks": nest_of_blocks,
}


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, tmp_path: Path) -> None:
    check = CASES[case]
    if check.__qualname__.startswith("damaged"):
        check(tmp_path)
    else:
        check()


@pytest.mark.parametrize("how", ["swapped", "folder"])
def test_other_damage_of_the_cache(how: str, tmp_path: Path) -> None:
    damaged(how)(tmp_path)


def test_all_cases_are_here() -> None:
    assert len(CASES) == 28
