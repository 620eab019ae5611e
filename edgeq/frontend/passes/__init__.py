"""Passes of the front end: one pass, one file. `edgeq.frontend.pipeline` puts them in order."""
