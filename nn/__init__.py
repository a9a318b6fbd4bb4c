"""Networks: initializers, layers, losses, updates, training, data, and the console command."""

if __name__ != "symgraph.nn":
    raise ImportError(f"import symgraph.nn, not {__name__}: the folder has no bare name")
