"""Make `models/sam_vit_mini2.pth`: synthetic microscopy, training and measuring.

The worker never imports this package.
"""
