"""The results that go to the server: outlines, scores, connections."""
