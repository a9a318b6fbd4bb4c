"""Graph to better graph: pattern rules, the rewrite engine, folding and the optimization levels."""

if __name__ != "symgraph.optim":
    raise ImportError(f"import symgraph.optim, not {__name__}: the folder has no bare name")
