"""Groups of expressions become kernels in the loop IR: `nest` for loop nests, else `special`."""
