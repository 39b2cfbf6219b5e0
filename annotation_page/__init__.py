"""The page of the annotation server: outline objects, run the worker, look, and export.

It runs in the server's process and on its store. The worker does not import it.
"""
