"""One log, many viewers: how many lines a second reach them, how soon, and what a viewer costs."""
