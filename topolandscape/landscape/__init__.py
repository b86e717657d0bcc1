"""The torch half: a network as a landscape, and where to look at it."""
