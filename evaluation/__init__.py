"""Measure precision, recall and duplicates of the worker on pictures with known objects."""
