"""Row-wise execution: layers with large images run a few rows at a time, so that no whole image need be in memory."""
