"""Any processor that LLVM knows, with vectors or without."""
