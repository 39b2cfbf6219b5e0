"""From the server's pixels to the image that the user sees."""
