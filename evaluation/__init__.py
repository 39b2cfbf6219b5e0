"""How good the results are: precision, recall and doubles of the worker on pictures with known objects."""
