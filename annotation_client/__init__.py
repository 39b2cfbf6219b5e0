"""The client of the annotation server, as far as the worker needs it.

Classes, methods and arguments have the names of NimbusImage's own client, so that the worker runs
with either of them.
"""
