"""The way to the annotation server: annotations, images, worker interfaces, and messages to the page.

Classes, methods and arguments are named as in NimbusImage's own client, so that the worker runs with either.
"""
