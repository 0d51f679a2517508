"""What does a line cost, a frame, a viewer, a build? By that a machine's size can be told beforehand."""
