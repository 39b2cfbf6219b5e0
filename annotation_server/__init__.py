"""A small annotation server on a folder of images, to try and test the worker without NimbusImage.

It answers the REST calls that the worker makes as a Girder server with NimbusImage's plugins would,
refusals included.
"""
