"""Integer graph to program: fuse, place, lay out, choose kernels."""
