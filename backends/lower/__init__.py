"""From groups of expressions to kernels in the loop IR: `nest` for loop nests, `special` for the
rest.
"""
