"""The client of the annotation server, as far as the worker needs it.

Classes, methods and arguments have the names of NimbusImage's own client, which its other workers
use. Arguments that it lacks are keywords.
"""
