"""One verdict over models × targets × policies: measure, compare with a baseline, say which layer did it, show it."""
