"""Kernel families, one file each: a frozen dataclass that names, packs for and builds one kernel per distinct shape."""
