"""From s32 sums to stored values."""
