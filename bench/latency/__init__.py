"""How long does a line take, from the build's write to its arrival at a viewer?"""
