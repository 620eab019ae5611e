"""How good a model is: data sets, metrics, models of any kind behind one face, per-layer comparison."""
