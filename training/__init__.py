"""Make `models/sam_vit_mini.pth`: synthetic microscopy, training and measuring.

The worker never imports this package.
"""
