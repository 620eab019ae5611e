"""From an integer graph to kernels, a memory plan and an artifact for one target."""
