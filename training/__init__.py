"""How `models/sam_vit_mini.pth` is made: synthetic microscopy, training and measuring. The worker never imports it."""
