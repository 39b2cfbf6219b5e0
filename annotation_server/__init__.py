"""A small annotation server on a folder of images, to try and test the worker without NimbusImage.

It gives the same answers to the worker's REST calls as a Girder server with NimbusImage's plugins,
including refusals.
"""
