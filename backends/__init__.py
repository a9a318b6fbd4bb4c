"""Graph to machine code: plan, loop IR, schedule, LLVM text, targets, runtime and cache."""

if __name__ != "symgraph.backends":
    raise ImportError(f"import symgraph.backends, not {__name__}: the folder has no bare name")
