"""Everything that computes: the model, its training, generation and metrics; drawn worlds."""

import os

# Threads that spin while they wait for each other win a tenth alone, and lose two thirds beside
# another process that computes (decisions 31). Read by libgomp when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
