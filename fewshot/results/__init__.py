"""What goes back to the server: outlines, scores, connections."""
