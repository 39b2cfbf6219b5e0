"""Proposals and vectors that an earlier run left on the server, so that they are computed once."""
