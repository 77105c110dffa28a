"""Choice of kernels: matrix products, norms, MLPs and compiled blocks."""
