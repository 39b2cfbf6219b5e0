"""How good the results are: precision, recall and duplicates of the worker on pictures with known objects."""
