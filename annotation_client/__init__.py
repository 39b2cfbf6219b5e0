"""The client of the annotation server: the calls that the worker needs.

Classes, methods and arguments have the same names as in NimbusImage's own client, which its other
workers use. Arguments that NimbusImage's client does not have are keyword-only.
"""
